//! Temperatures and cooling devices, from sysfs' `class/thermal`. Boards and virtual machines without any have neither.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

const MILLIDEGREES: f64 = 1000.0;

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let zones = reader.entries("class/thermal", "thermal_zone")?;
    let devices = reader.entries("class/thermal", "cooling_device")?;

    let mut cooling = Vec::new();
    for device in devices {
        let path = reader.paths.sysfs.join("class/thermal").join(&device);
        let mut state = |name| reader.attribute(&path, name).and_then(|text| text.parse::<i64>().ok());
        let (current, highest) = (state("cur_state"), state("max_state"));
        let kind = reader.attribute(&path, "type").unwrap_or_default();
        let number = device.trim_start_matches("cooling_device").to_owned();
        cooling.push((number, kind, current, highest));
    }
    if !cooling.is_empty() {
        let name = "node_cooling_device_cur_state";
        writer.family(name, Kind::Gauge, "How hard a cooling device is working, 0 to its largest state.");
        for (number, kind, current, _) in &cooling {
            if let Some(current) = current {
                writer.sample(name, &[("name", number), ("type", kind)], current);
            }
        }
        let name = "node_cooling_device_max_state";
        writer.family(name, Kind::Gauge, "Largest state of a cooling device.");
        for (number, kind, _, highest) in &cooling {
            if let Some(highest) = highest {
                writer.sample(name, &[("name", number), ("type", kind)], highest);
            }
        }
    }

    let mut temperatures = Vec::new();
    for zone in zones {
        let path = reader.paths.sysfs.join("class/thermal").join(&zone);
        // A sensor that is switched off answers with an error; it has no temperature then.
        let Some(temperature) = reader.attribute(&path, "temp").and_then(|text| text.parse::<i64>().ok()) else {
            continue;
        };
        let kind = reader.attribute(&path, "type").unwrap_or_default();
        temperatures.push((zone.trim_start_matches("thermal_zone").to_owned(), kind, temperature));
    }
    if !temperatures.is_empty() {
        let name = "node_thermal_zone_temp";
        writer.family(name, Kind::Gauge, "Temperature of a zone in degrees Celsius.");
        for (zone, kind, temperature) in &temperatures {
            writer.sample(name, &[("type", kind), ("zone", zone)], *temperature as f64 / MILLIDEGREES);
        }
    }
    Ok(())
}
