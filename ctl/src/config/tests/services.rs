//! Command services, proxies for datagrams and IP routers: what is read of them, and what is refused.

use super::{
    super::{InboundDoor, OutboundTarget},
    config, parse, problems,
};

const NODE: &str = "- node: foo\n- local-only:\n";

#[test]
fn each_section_becomes_what_it_says() {
    let config = config(&format!(
        "{NODE}- udp-server: {{port: 53, remotenode: LOCALHOST, remoteservice: dns}}\n\
         - udp-client: {{service: dns, address: '[::1]:53'}}\n\
         - command-service: {{service: sh, command: sh -c 'echo a b'}}\n\
         - ip-router: {{networkname: net, interface: nm0, localnet: 10.0.0.6/30, routes: ' 10.1.2.3/16, fd00::/64,'}}\n\
         - ip-router: {{networkname: two, localnet: 10.0.0.8/30, routes: [10.1.0.0/16, '10.2.0.0/16,10.3.0.0/16']}}\n"
    ));
    assert_eq!(config.inbound[0].door, InboundDoor::Udp("0.0.0.0:53".to_owned()));
    assert_eq!(config.inbound[0].node, None);
    assert_eq!(config.outbound[0].to, OutboundTarget::Udp("[::1]:53".to_owned()));
    assert_eq!(config.command_services[0].command, ["sh", "-c", "echo a b"]);
    let [one, two] = &config.ip_routers[..] else { panic!() };
    let texts = |nets: &[super::super::Net]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((one.interface.as_deref(), one.local.to_string()), (Some("nm0"), "10.0.0.4/30".to_owned()));
    assert_eq!(texts(&one.routes), ["10.1.0.0/16", "fd00::/64"]);
    assert_eq!((two.interface.as_deref(), texts(&two.routes).len()), (None, 3));
}

#[test]
fn what_could_not_work_is_told_before_anything_starts() {
    for (section, expected) in [
        ("udp-server: {port: 1, remotenode: a}", "required parameter missing: remoteservice"),
        ("udp-client: {service: dns, address: nowhere}", "missing port in address"),
        ("command-service: {service: sh, command: \"sh 'open\"}", "EOF found when expecting closing quote"),
        ("command-service: {service: sh, command: ' '}", "is empty"),
        ("command-service: {service: sh, command: sh, tls: none}", "none"),
        ("command-service: {service: much-too-long, command: sh}", "at most 8 bytes"),
        ("ip-router: {networkname: net, localnet: 10.0.0.0}", "could not parse 10.0.0.0 as a CIDR address"),
        (
            "ip-router: {networkname: net, localnet: 10.0.0.0/24}",
            "local network 10.0.0.0/24 must be a /30 CIDR",
        ),
        ("ip-router: {networkname: net, localnet: 'fd00::/126'}", "local network fd00::/126 must be IPv4"),
        (
            "ip-router: {networkname: net, localnet: 10.0.0.0/30, routes: 'a,b'}",
            "could not parse a as a CIDR address",
        ),
        (
            "ip-router: {networkname: net, localnet: 10.0.0.0/30, interface: this-name-is-too-long}",
            "no name of an interface",
        ),
        (
            "command-service: {service: control, command: sh}\n- control-service:",
            "service control is already listening",
        ),
        (
            "udp-client: {service: a, address: 'b:1'}\n- ip-router: {networkname: a, localnet: 10.0.0.0/30}",
            "service a is already listening",
        ),
        (
            "udp-server: {port: 1, remotenode: a, remoteservice: b}\n- udp-server: {port: 1, remotenode: a, remoteservice: b}",
            "is taken by",
        ),
    ] {
        let found = problems(&format!("{NODE}- {section}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{section}: {found:?}");
    }
    // A port of another kind is another port.
    parse(&format!(
        "{NODE}- tcp-server: {{port: 1, remotenode: a, remoteservice: b}}\n- udp-server: {{port: 1, remotenode: a, remoteservice: b}}\n"
    ))
    .expect("both can be had");
}

#[test]
fn a_command_that_anybody_may_run_is_a_warning() {
    let warnings = config(&format!("{NODE}- command-service: {{service: sh, command: sh}}\n")).warnings;
    assert!(
        warnings.iter().any(|warning| warning.to_string().contains("may run this command")),
        "{warnings:?}"
    );
}
