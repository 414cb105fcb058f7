//! Kernel, machine and host name: `node_uname_info`.

use super::reader::CollectError;
use super::system::System;
use super::writer::{Kind, Writer};

pub fn collect(system: &dyn System, writer: &mut Writer) -> Result<(), CollectError> {
    let uname = system.uname();
    let name = "node_uname_info";
    writer.family(name, Kind::Gauge, "Always 1; what uname(2) says stands in the labels.");
    let labels = [
        ("domainname", &*uname.domainname),
        ("machine", &uname.machine),
        ("nodename", &uname.nodename),
        ("release", &uname.release),
        ("sysname", &uname.sysname),
        ("version", &uname.version),
    ];
    writer.sample(name, &labels, 1);
    Ok(())
}
