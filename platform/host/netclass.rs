//! What network interfaces are and whether their link is up, from sysfs' `class/net`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

struct Interface {
    device: String,
    address: String,
    broadcast: String,
    duplex: String,
    alias: String,
    operstate: String,
    adminstate: &'static str,
    /// In the order of [`VALUES`].
    values: [Option<f64>; VALUES.len()],
}

struct Value {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    attribute: &'static str,
    factor: f64,
}

/// A speed is in Mbit/s in sysfs.
const BYTES_PER_S_IN_MBIT_PER_S: f64 = 125_000.0;

const VALUES: [Value; 7] = [
    Value {
        name: "node_network_carrier",
        kind: Kind::Gauge,
        help: "1 if the physical link is up.",
        attribute: "carrier",
        factor: 1.0,
    },
    Value {
        name: "node_network_carrier_changes_total",
        kind: Kind::Counter,
        help: "How often the link went up or down.",
        attribute: "carrier_changes",
        factor: 1.0,
    },
    Value {
        name: "node_network_carrier_down_changes_total",
        kind: Kind::Counter,
        help: "How often the link went down.",
        attribute: "carrier_down_count",
        factor: 1.0,
    },
    Value {
        name: "node_network_carrier_up_changes_total",
        kind: Kind::Counter,
        help: "How often the link came up.",
        attribute: "carrier_up_count",
        factor: 1.0,
    },
    Value {
        name: "node_network_mtu_bytes",
        kind: Kind::Gauge,
        help: "Largest packet of the interface.",
        attribute: "mtu",
        factor: 1.0,
    },
    Value {
        name: "node_network_speed_bytes",
        kind: Kind::Gauge,
        help: "Speed of the link in bytes per second.",
        attribute: "speed",
        factor: BYTES_PER_S_IN_MBIT_PER_S,
    },
    Value {
        name: "node_network_transmit_queue_length",
        kind: Kind::Gauge,
        help: "Packets the send queue can hold.",
        attribute: "tx_queue_len",
        factor: 1.0,
    },
];

/// `IFF_UP` of net/if.h, in sysfs' `flags`.
const FLAG_UP: u64 = 1;

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let mut interfaces = Vec::new();
    for device in reader.entries("class/net", "")? {
        if let Some(interface) = read_interface(reader, device) {
            interfaces.push(interface);
        }
    }
    let name = "node_network_info";
    writer.family(name, Kind::Gauge, "Always 1; what an interface is stands in the labels.");
    for interface in &interfaces {
        let labels = [
            ("address", &*interface.address),
            ("adminstate", interface.adminstate),
            ("broadcast", &interface.broadcast),
            ("device", &interface.device),
            ("duplex", &interface.duplex),
            ("ifalias", &interface.alias),
            ("operstate", &interface.operstate),
        ];
        writer.sample(name, &labels, 1);
    }
    let name = "node_network_up";
    writer.family(name, Kind::Gauge, "1 if the operational state of the interface is up, else 0.");
    for interface in &interfaces {
        writer.sample(name, &[("device", &interface.device)], u8::from(interface.operstate == "up"));
    }
    for (column, value) in VALUES.iter().enumerate() {
        if interfaces.iter().all(|interface| interface.values[column].is_none()) {
            continue;
        }
        writer.family(value.name, value.kind, value.help);
        for interface in &interfaces {
            if let Some(number) = interface.values[column] {
                writer.sample(value.name, &[("device", &interface.device)], number);
            }
        }
    }
    Ok(())
}

/// None for what is no interface (the file `bonding_masters` stands beside them).
fn read_interface(reader: &mut Reader, device: String) -> Option<Interface> {
    let path = reader.paths.sysfs.join("class/net").join(&device);
    let operstate = reader.attribute(&path, "operstate")?;
    let flags = reader.attribute(&path, "flags");
    let flags = flags.as_deref().and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let adminstate = match flags {
        None => "unknown",
        Some(flags) if flags & FLAG_UP != 0 => "up",
        Some(_) => "down",
    };
    let values = VALUES.each_ref().map(|value| {
        let number: f64 = reader.attribute(&path, value.attribute)?.parse().ok()?;
        // A link that is down, or virtual, has the speed -1: no speed.
        (number >= 0.0).then_some(number * value.factor)
    });
    let mut text = |name| reader.attribute(&path, name).unwrap_or_default();
    Some(Interface {
        address: text("address"),
        broadcast: text("broadcast"),
        duplex: text("duplex"),
        alias: text("ifalias"),
        device,
        operstate,
        adminstate,
        values,
    })
}
