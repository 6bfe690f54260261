//! Changes the settings of a lab before it is brought up.

use std::fs;

use crate::common::LabFolder;

/// What a switch makes of the end of a session of BFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// There is no BFD.
    Without,
    /// A lost path.
    Path,
    /// A restart of the control plane, where graceful restart was agreed on and the node's BFD shares its fate.
    ControlPlane,
}

/// All ends send and receive at this pace.
pub(crate) fn set_interval(folder: &LabFolder, interval_ms: u64) {
    edit(folder, "frr/f1.conf", |text| text.replace("-interval 300", &format!("-interval {interval_ms}")));
    edit(folder, "bird.conf", |text| text.replace("interval 300 ms", &format!("interval {interval_ms} ms")));
    edit(folder, "manifests/cluster.yaml", |text| {
        text.replace("Milliseconds: 300", &format!("Milliseconds: {interval_ms}"))
    });
}

/// BIRD takes the end of BFD for a restart, where graceful restart was agreed on.
pub(crate) fn set_bird_graceful(folder: &LabFolder) {
    edit(folder, "bird.conf", |text| text.replace("bfd on;", "bfd graceful;"));
}

/// With a hold time of 9 s.
pub(crate) fn set_check(folder: &LabFolder, check: Check) {
    let has_bfd = check != Check::Without;
    let keep = |text: &str, drops: fn(&str) -> bool| {
        let lines = text.lines().filter(|line| has_bfd || !drops(line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    edit(folder, "frr/f1.conf", |text| {
        let text = text.replace("timers 30 90", "timers 3 9");
        let text = keep(&text, |line| line.contains("neighbor") && line.contains(" bfd"));
        match check {
            Check::ControlPlane => {
                let line = |neighbor| format!(" neighbor {neighbor} bfd profile node\n");
                ["192.0.2.1", "2001:db8:0:1::1"].into_iter().fold(text, |text, neighbor| {
                    let more = format!(" neighbor {neighbor} bfd check-control-plane-failure\n");
                    text.replace(&line(neighbor), &(line(neighbor) + &more))
                })
            }
            Check::Without | Check::Path => text,
        }
    });
    edit(folder, "bird.conf", |text| {
        let text = text.replace("hold time 90", "hold time 9");
        let text = keep(&text, |line| line.trim() == "bfd on;");
        if check == Check::ControlPlane { text.replace("bfd on;", "bfd graceful;") } else { text }
    });
    edit(folder, "manifests/cluster.yaml", |text| {
        keep(&text.replace("holdTimeSeconds: 90", "holdTimeSeconds: 9"), |line| line.contains("bfd:"))
    });
}

fn edit(folder: &LabFolder, name: &str, change: impl FnOnce(&str) -> String) {
    let before = fs::read_to_string(folder.path().join(name)).expect("a file of the lab");
    folder.write(name, &change(&before));
}
