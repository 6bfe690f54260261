mod common;
use std::time::Duration;
use cambric_lab::flow::Flow;
use cambric_lab::{Lab, poll};
use nix::sys::signal::Signal;
#[test]
fn matrix_all() {
    let mut o = common::options();
    o.bin_dir = Some("/tmp/lab-bin3".into());
    let lab = Lab::load("/tmp/tr").unwrap().up_guarded(&o, &common::progress).unwrap();
    let n11 = lab.node("n11").unwrap();
    let pods = lab.pods().unwrap();
    std::thread::sleep(Duration::from_secs(122));
    for what in ["n11 kill", "n11 term"] {
    let mk = |f: usize, to: &str| Flow::start(&lab.pod("n11","n11-1").unwrap(), None, &lab.pod(&to[..3],to).unwrap(), pods.iter().find(|p| p.name()==to).unwrap().addresses().unwrap()[f]).unwrap();
    let flows: Vec<_> = ["n21-1","n12-1"].iter().flat_map(|t| [mk(0,t), mk(1,t)]).collect();
    poll::until("flow", Duration::from_secs(20), || flows[0].answered() > 500).unwrap();
    n11.kill("cambricd", if what == "n11 kill" { Signal::SIGKILL } else { Signal::SIGTERM }).unwrap(); std::thread::sleep(Duration::from_secs(4)); n11.start().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    for f in flows { let r = f.stop().unwrap(); eprintln!("{what} lost {} of {} gap {:?} runs {}", r.lost, r.sent, r.longest_gap, r.lost_runs.len()); }
    }
    lab.down().unwrap();
}
