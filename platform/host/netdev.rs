//! Traffic per network interface, from proc's `net/dev`: `node_network_receive_*_total`, `node_network_transmit_*_total`.

use super::reader::{CollectError, Reader, numbers};
use super::writer::{Kind, Writer};

/// The columns of `net/dev`, in its order.
const COLUMNS: [(&str, &str); 16] = [
    ("node_network_receive_bytes_total", "Bytes received."),
    ("node_network_receive_packets_total", "Packets received."),
    ("node_network_receive_errs_total", "Packets received with errors."),
    ("node_network_receive_drop_total", "Packets received and dropped."),
    ("node_network_receive_fifo_total", "Packets lost because the receive queue was full."),
    ("node_network_receive_frame_total", "Packets received with a framing error."),
    ("node_network_receive_compressed_total", "Compressed packets received."),
    ("node_network_receive_multicast_total", "Multicast packets received."),
    ("node_network_transmit_bytes_total", "Bytes sent."),
    ("node_network_transmit_packets_total", "Packets sent."),
    ("node_network_transmit_errs_total", "Packets that could not be sent."),
    ("node_network_transmit_drop_total", "Packets dropped instead of sent."),
    ("node_network_transmit_fifo_total", "Packets lost because the send queue was empty too late."),
    ("node_network_transmit_colls_total", "Collisions while sending."),
    ("node_network_transmit_carrier_total", "Packets not sent because the carrier was lost."),
    ("node_network_transmit_compressed_total", "Compressed packets sent."),
];

/// Two lines of headings stand above the interfaces.
const HEADING_LINE_COUNT: usize = 2;

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let text = reader.procfs("net/dev")?;
    let mut interfaces = Vec::new();
    for (line_number, line) in text.lines().skip(HEADING_LINE_COUNT) {
        // The last colon: an alias such as eth0:1 has one in its name. No space need follow it on old kernels.
        let broken = || text.broken(line_number, "expected an interface, a colon and 16 numbers");
        let (device, rest) = line.rsplit_once(':').ok_or_else(broken)?;
        let mut columns = [0; COLUMNS.len()];
        if numbers(rest.split_ascii_whitespace(), &mut columns) != Some(COLUMNS.len()) {
            return Err(broken());
        }
        interfaces.push((device.trim(), columns));
    }
    interfaces.sort_unstable();
    for (column, (name, help)) in COLUMNS.iter().enumerate() {
        writer.family(name, Kind::Counter, help);
        for (device, columns) in &interfaces {
            writer.sample(name, &[("device", device)], columns[column]);
        }
    }
    Ok(())
}
