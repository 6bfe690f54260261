//! Good files mean what containerlab means by them; each bad file is refused with file, place and value.

use super::*;

/// A folder with what the binds below need.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("frr")).expect("a folder");
    for name in ["frr/r1.conf", "daemons", "other"] {
        std::fs::write(folder.path().join(name), "").expect("a file");
    }
    folder
}

fn parse(text: &str) -> Result<Topology, FileError> {
    let folder = folder();
    Topology::parse(&folder.path().canonicalize().expect("it is there").join("x.clab.yml"), text)
}

fn good(text: &str) -> Topology {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The error without the name of the file, which is a temporary one.
fn refusal(text: &str) -> String {
    let error = parse(text).expect_err(text);
    let all = error.to_string();
    let file = format!("{}: ", error.file.display());
    assert!(all.starts_with(&file), "{all} names the file");
    all.replace(&file, "").replace(&error.file.parent().expect("a folder").display().to_string(), "DIR")
}

/// A file whose one node has these lines.
fn with_node(lines: &str) -> String {
    format!("name: x\ntopology:\n  nodes:\n    r1:\n      kind: linux\n      image: frr\n      {lines}\n")
}

/// A file with these links between r1, r2 and the bridge br.
fn with_links(lines: &str) -> String {
    format!(
        "name: x\ntopology:\n  defaults: {{ kind: linux, image: alpine }}\n  \
         nodes: {{ r1: , r2: {{}}, br: {{ kind: bridge }} }}\n  links:\n{lines}\n"
    )
}

#[test]
fn nearer_levels_lie_over_farther_ones() {
    let topology = good(
        "
name: x
prefix: lab
mgmt: { network: unused }
topology:
  defaults:
    env: { A: defaults, B: defaults, C: defaults, D: 4 }
    exec: [echo defaults]
    binds: [daemons:/etc/frr/daemons]
  kinds:
    linux:
      image: frrouting/frr:v8.4.1
      env: { B: kind, C: kind }
      sysctls: { net.ipv4.ip_forward: 1 }
  groups:
    switch:
      env: { C: group }
      exec: ['echo group']
      binds: ['frr/__clabNodeName__.conf:/etc/frr/frr.conf:ro']
  nodes:
    r1:
      kind: linux
      group: switch
      exec: [ 'vtysh -c \"show __clabNodeName__\"' ]
      binds: [other:/etc/frr/daemons]
",
    );
    let node = &topology.nodes["r1"];
    assert_eq!(node.role, Role::Frr);
    let env: Vec<_> = node.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["A=defaults", "B=kind", "C=group", "D=4"]);
    assert_eq!(node.exec, [vec!["echo", "defaults"], vec!["echo", "group"], vec!["vtysh", "-c", "show r1"]]);
    assert_eq!(node.sysctls["net.ipv4.ip_forward"], "1");
    let binds: Vec<_> = node
        .binds
        .iter()
        .map(|bind| {
            let source = bind.source.file_name().expect("a name").to_string_lossy();
            format!("{source} {} {:?}", bind.target.display(), bind.access)
        })
        .collect();
    assert_eq!(binds, ["r1.conf /etc/frr/frr.conf ReadOnly", "other /etc/frr/daemons ReadWrite"]);
    assert_eq!(topology.netns_name("r1"), "lab-x-r1");
}

#[test]
fn links_are_read_in_both_forms() {
    let topology = good(&with_links(
        "  - { endpoints: ['r1:eth1', 'r2:eth1'], mtu: 9000, ipv4: [192.0.2.0/31, 192.0.2.1/31] }
  - type: veth
    endpoints:
    - { node: r1, interface: eth2, mac: '02:00:00:00:00:01', ipv6: '2001:db8::/127' }
    - { node: br, interface: r1 }",
    ));
    let [first, second] = &topology.links[..] else { panic!("two links") };
    assert_eq!(
        (first.mtu_bytes, &first.ends[1].addresses[..]),
        (Some(9000), &["192.0.2.1/31".to_owned()][..])
    );
    assert_eq!(second.ends[0].mac.as_deref(), Some("02:00:00:00:00:01"));
    assert_eq!(second.ends[0].addresses, ["2001:db8::/127"]);
    assert_eq!((second.ends[1].node.as_str(), second.ends[1].interface.as_str()), ("br", "r1"));
    assert_eq!(topology.ends_of("r1").count(), 2);
}

#[test]
fn the_role_is_the_last_part_of_the_image_name() {
    for (image, role) in [
        ("frr", Role::Frr),
        ("frrouting/frr:v8.4.1", Role::Frr),
        ("localhost:5000/frr@sha256:00", Role::Frr),
        ("registry.example/someone/cambric:v1", Role::Cambric),
        ("cambric-lab:latest", Role::Cambric),
        ("cambric/frr-tools", Role::Linux),
        ("frr/alpine:3", Role::Linux),
    ] {
        assert_eq!(Role::of_image(image), role, "{image}");
    }
}

#[test]
fn the_pods_label_is_a_number_quoted_or_not() {
    for value in ["2", "\"2\""] {
        let text = format!(
            "name: x\ntopology:\n  nodes:\n    n1: {{ kind: linux, image: cambric, labels: {{ cambric.dev/pods: {value} }} }}"
        );
        assert_eq!(good(&text).nodes["n1"].pods, 2);
    }
}

#[test]
fn unknown_keys_are_named() {
    for (text, named) in [
        ("name: x\ntopologie: {}\n".to_owned(), "unknown field `topologie`"),
        ("name: x\ntopology: { nodes: {}, lynx: [] }".to_owned(), "topology: unknown field `lynx`"),
        (with_node("bind: []"), "topology.nodes.r1: unknown field `bind`"),
        (with_node("startup-config: x"), "topology.nodes.r1: unknown field `startup-config`"),
        (with_links("  - { endpoints: ['r1:a', 'r2:a'], mtuu: 1 }"), "unknown field `mtuu`"),
        (with_links("  - endpoints: [{ node: r1, interface: a, ip: x }, 'r2:a']"), "unknown field `ip`"),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.contains(named), "{refusal} has {named}");
        assert!(refusal.contains(" line "), "{refusal} has the line");
    }
}

#[test]
fn two_nodes_of_one_name_are_refused() {
    let refusal =
        refusal("name: x\ntopology:\n  nodes:\n    r1: { kind: bridge }\n    r1: { kind: bridge }\n");
    assert!(refusal.contains("duplicate entry with key \"r1\""), "{refusal}");
}

#[test]
fn bad_nodes_are_refused_with_place_and_value() {
    let node = "topology.nodes.r1";
    for (text, wanted) in [
        ("name: 'a b'\ntopology: { nodes: {} }".into(), "name: bad name \"a b\": letters, digits, '-', '_' and '.' only".to_owned()),
        ("name: x\ntopology: { nodes: { '../r': {} } }".into(), "topology.nodes.../r: bad name \"../r\": letters, digits, '-', '_' and '.' only".into()),
        ("name: x\ntopology: { nodes: { r1: {} } }".into(), format!("{node}: no kind: not on the node, its group nor in defaults")),
        ("name: x\ntopology: { nodes: { r1: { kind: linux } } }".into(), format!("{node}: a node of kind linux needs an image")),
        ("name: x\ntopology: { nodes: { r1: { kind: nokia_srlinux } } }".into(), format!("{node}.kind: no namespace can play \"nokia_srlinux\"; known are linux and bridge")),
        ("name: x\ntopology: { groups: { a: {} }, nodes: { r1: { kind: bridge, group: b } } }".into(), format!("{node}.group: \"b\" is not in topology.groups")),
        ("name: x\ntopology: { nodes: { r1: { kind: bridge, exec: [ls] } } }".into(), format!("{node}.exec: means nothing on a bridge")),
        ("name: x\ntopology: { nodes: { a-very-long-bridge: { kind: bridge } } }".into(), "topology.nodes.a-very-long-bridge: bridge name \"a-very-long-bridge\" has 18 characters, Linux takes 15".into()),
        (with_node("binds: ['absent:/x']"), format!("{node}.binds[0]: DIR/absent: No such file or directory (os error 2)")),
        (with_node("binds: ['daemons:/x', 'daemons']"), format!("{node}.binds[1]: \"daemons\" is not source:target or source:target:ro")),
        (with_node("binds: ['daemons:x']"), format!("{node}.binds[0]: target \"x\" in \"daemons:x\" must be an absolute path below /")),
        (with_node("binds: ['daemons:/a/../b']"), format!("{node}.binds[0]: target \"/a/../b\" in \"daemons:/a/../b\" must be an absolute path below /")),
        (with_node("binds: ['daemons:/x:rx']"), format!("{node}.binds[0]: unknown option \"rx\" in \"daemons:/x:rx\"")),
        (with_node("exec: ['echo \"a']"), format!("{node}.exec[0]: quote is not closed: \"echo \\\"a\"")),
        (with_node("exec: ['']"), format!("{node}.exec[0]: empty command")),
        (with_node("cmd: sleep"), format!("{node}.cmd: only an image named cambric takes one here, not \"sleep\"")),
        (with_node("sysctls: { kernel.panic: 1 }"), format!("{node}.sysctls: \"kernel.panic\" does not belong to a network namespace")),
        (with_node("labels: { cambric.dev/pods: 1 }"), format!("{node}.labels[cambric.dev/pods]: pods need a node whose image is named cambric")),
        ("name: x\ntopology: { nodes: { r1: { kind: linux, image: cambric, labels: { cambric.dev/pods: 251 } } } }".into(), format!("{node}.labels[cambric.dev/pods]: 251 pods: at most 250")),
        ("name: x\nprefix: a/b\ntopology: { nodes: {} }".into(), "prefix: bad prefix \"a/b\": letters, digits, '-', '_' and '.' only, or empty, or __lab-name".into()),
        (with_node("labels: { cambric.dev/pods: two }"), format!("{node}.labels[cambric.dev/pods]: \"two\" is not a number of pods")),
    ] {
        assert_eq!(refusal(&text), wanted);
    }
}

#[test]
fn bad_links_are_refused_with_place_and_value() {
    let link = "topology.links[0]";
    for (lines, wanted) in [
        (
            "  - endpoints: ['r1:a', 'r3:a']",
            format!("{link}.endpoints[1]: node \"r3\" is not in topology.nodes"),
        ),
        (
            "  - endpoints: ['r1:a', 'host:a']",
            format!("{link}.endpoints[1]: node \"host\" is not in topology.nodes"),
        ),
        ("  - endpoints: ['r1:a']", format!("{link}.endpoints: a link has two ends, this one has 1")),
        (
            "  - endpoints: ['r1:a', 'r2:a', 'br:a']",
            format!("{link}.endpoints: a link has two ends, this one has 3"),
        ),
        (
            "  - endpoints: ['r1:a', 'r1:a']",
            format!("{link}.endpoints[1]: r1:a is in topology.links[0] already"),
        ),
        (
            "  - endpoints: ['r1:a', 'r2:a']\n  - endpoints: ['br:a', 'r2:a']",
            "topology.links[1].endpoints[1]: r2:a is in topology.links[0] already".into(),
        ),
        ("  - endpoints: ['r1', 'r2:a']", format!("{link}.endpoints[0]: \"r1\" is not node:interface")),
        (
            "  - endpoints: ['r1:a:b', 'r2:a']",
            format!("{link}.endpoints[0]: \"r1:a:b\" is not node:interface"),
        ),
        (
            "  - endpoints: ['r1:sixteen-letters-', 'r2:a']",
            format!(
                "{link}.endpoints[0]: interface name \"sixteen-letters-\" has 16 characters, Linux takes 15"
            ),
        ),
        (
            "  - endpoints: ['r1:a/b', 'r2:a']",
            format!("{link}.endpoints[0]: \"a/b\" cannot name an interface"),
        ),
        ("  - endpoints: ['r1:lo', 'r2:a']", format!("{link}.endpoints[0]: r1:lo is there already")),
        ("  - endpoints: ['br:br', 'r2:a']", format!("{link}.endpoints[0]: br:br is there already")),
        (
            "  - { type: macvlan, endpoint: {}, host-interface: eth0 }",
            format!("{link}.type: only veth links are known here, not \"macvlan\""),
        ),
        ("  - { endpoints: ['r1:a', 'r2:a'], mtu: 67 }", format!("{link}.mtu: 67: a veth takes 68 to 65535")),
        (
            "  - endpoints: [{ node: r1, interface: a, mac: '03:00:00:00:00:01' }, 'r2:a']",
            format!("{link}.endpoints[0].mac: \"03:00:00:00:00:01\" is not the MAC address of one interface"),
        ),
        (
            "  - endpoints: ['r1:a', { node: r2, interface: a, mac: '02:00:00:00:00' }]",
            format!("{link}.endpoints[1].mac: \"02:00:00:00:00\" is not the MAC address of one interface"),
        ),
        (
            "  - { endpoints: ['r1:a', 'r2:a'], ipv4: [192.0.2.1/33] }",
            format!("{link}.endpoints[0]: \"192.0.2.1/33\" is not an address with prefix length"),
        ),
        (
            "  - { endpoints: ['r1:a', 'r2:a'], ipv6: ['', '2001:db8::1'] }",
            format!("{link}.endpoints[1]: \"2001:db8::1\" is not an address with prefix length"),
        ),
    ] {
        assert_eq!(refusal(&with_links(lines)), wanted, "{lines}");
    }
}

#[test]
fn a_lab_is_found_by_its_folder_and_by_its_name_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = Topology::load(folder.path()).expect_err("no file").to_string();
    assert!(missing.ends_with(": the folder has no *.clab.yml"), "{missing}");
    std::fs::write(folder.path().join("a.clab.yml"), "name: broken\ntopology: { no: }\n").expect("a file");
    assert_eq!(name_of(folder.path()).expect("a name").1, "broken");
    std::fs::write(folder.path().join("b.clab.yml"), "name: x\n").expect("a file");
    let two = Topology::load(folder.path()).expect_err("two files").to_string();
    assert!(two.ends_with(": the folder has more than one *.clab.yml, name one"), "{two}");
}
