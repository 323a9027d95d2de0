//! What the header of a column says.
//!
//! In: a header's text. Out: its [`Role`]. Never: a product's name.

use crate::column::Role;

/// What a header says, in English and the other languages that vendors write.
pub(crate) fn role(header: &str) -> Option<Role> {
    let text =
        header.to_lowercase().replace("port(s)", "ports").replace("protocol(s)", "protocols").replace("(s)", "s");
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let is = |list: &[&str]| list.contains(&words.join(" ").as_str());

    let is_brief = words.len() <= 3;
    let port = has(&[
        "port",
        "ports",
        "puerto",
        "puertos",
        "porta",
        "porte",
        "portas",
        "portnumber",
        "dport",
        "sport",
        "portrange",
    ]);
    let protocol = has(&["protocol", "protocols", "proto", "protokoll", "protocollo", "protocolo", "protocole"]);
    let source = has(&[
        "source",
        "sources",
        "src",
        "from",
        "origin",
        "originator",
        "initiator",
        "initiating",
        "client",
        "clients",
        "consumer",
        "consumers",
        "caller",
        "sender",
        "requester",
        "requestor",
        "quelle",
        "von",
        "origen",
        "origine",
        "origem",
        "fuente",
    ]) || text.contains("used by")
        || text.contains("initiated by")
        || text.contains("accessed by")
        || text.contains("connects from")
        || text.contains("allowed ip")
        || text.contains("who connects");
    let destination = has(&[
        "destination",
        "destinations",
        "dest",
        "dst",
        "target",
        "targets",
        "receiver",
        "listener",
        "responder",
        "ziel",
        "nach",
        "destino",
        "destinazione",
    ]) || is_brief && has(&["to"])
        || !source
            && has(&["endpoint", "endpoints", "fqdn", "url", "urls", "domain", "domains", "hostname", "hostnames"]);
    let describes = has(&[
        "description",
        "descriptions",
        "purpose",
        "purposes",
        "note",
        "notes",
        "comment",
        "comments",
        "remark",
        "remarks",
        "usage",
        "use",
        "function",
        "functions",
        "detail",
        "details",
        "reason",
        "explanation",
        "notizen",
        "beschreibung",
        "zweck",
        "descripción",
        "descrição",
        "descrizione",
        "scopo",
        "propósito",
        "information",
        "info",
        "configurable",
        "required",
        "mandatory",
        "optional",
        "condition",
        "when",
        "remarques",
        "meaning",
        "example",
        "examples",
        "owner",
    ]);
    let of_one_protocol = match (has(&["tcp"]), has(&["udp"])) {
        (true, false) => Some(Role::TcpPort),
        (false, true) => Some(Role::UdpPort),
        _ => None,
    };
    if words.len() == 1 && of_one_protocol.is_some() {
        return of_one_protocol;
    }
    if is(&[
        "source port",
        "source ports",
        "src port",
        "src ports",
        "sport",
        "from port",
        "client port",
        "source port range",
        "quellport",
        "ephemeral port",
    ]) {
        return Some(Role::SourcePort);
    }
    if port || has(&["zielport"]) {
        if source && !destination {
            return Some(Role::SourcePort);
        }
        if is_brief && has(&["start", "first", "begin", "lower"]) {
            return Some(Role::PortStart);
        }
        if is_brief && has(&["end", "last", "upper"]) {
            return Some(Role::PortEnd);
        }
        if has(&["inbound", "incoming", "ingress"]) && !has(&["outbound", "outgoing", "egress"]) {
            return Some(Role::Inbound);
        }
        if has(&["outbound", "outgoing", "egress"]) && !has(&["inbound", "incoming", "ingress"]) {
            return Some(Role::Outbound);
        }
        if let Some(role) = of_one_protocol {
            return Some(role);
        }
        if is(&["port type"]) {
            return Some(Role::Protocol);
        }
        if describes || has(&["name"]) {
            return Some(Role::Note);
        }
        return Some(Role::Port);
    }
    if is(&["inbound", "incoming", "ingress", "in", "listens on", "listening on", "listen", "accepts"]) {
        return Some(Role::Inbound);
    }
    if is(&["outbound", "outgoing", "egress", "out", "connects to", "communicates on"]) {
        return Some(Role::Outbound);
    }
    if !is_brief && describes && !words.first().is_some_and(|first| matches!(*first, "source" | "destination")) {
        return Some(Role::Note);
    }
    if has(&["bidirectional", "bidir"]) || text.contains("bi-directional") || text.contains("two-way") {
        return Some(Role::BothWays);
    }
    if source && destination
        || is(&[
            "peer",
            "peers",
            "remote",
            "remote host",
            "remote system",
            "remote end",
            "other end",
            "counterpart",
            "connects with",
            "communicates with",
            "communication partner",
            "remote ip",
            "network",
            "ip range",
            "ip ranges",
        ])
    {
        return Some(Role::Peer);
    }
    if has(&["direction", "dir", "richtung", "dirección", "direzione", "initiation"])
        || is(&[
            "flow",
            "traffic",
            "traffic flow",
            "data flow",
            "inbound outbound",
            "ingress egress",
            "in out",
            "connection",
            "communication",
            "path",
        ])
    {
        return Some(Role::Direction);
    }
    let is_place = has(&[
        "ip",
        "ips",
        "address",
        "addresses",
        "subnet",
        "range",
        "cidr",
        "zone",
        "vlan",
        "segment",
        "site",
        "interface",
        "location",
        "network",
    ]);
    if source {
        return Some(if is_place { Role::SourceAddress } else { Role::Source });
    }
    if destination {
        return Some(if is_place { Role::DestinationAddress } else { Role::Destination });
    }
    if protocol
        || has(&["transport", "layer4", "l4"])
        || is(&["tcp udp", "udp tcp", "tcp or udp", "layer 4", "ip protocol"])
    {
        return Some(Role::Protocol);
    }
    if has(&["permission", "action", "aktion", "acción", "azione", "verdict"])
        || is(&["allow deny", "access", "rule action", "allow", "policy"])
    {
        return Some(Role::Action);
    }
    if describes || text.contains("used for") {
        return Some(Role::Note);
    }
    if has(&[
        "service",
        "services",
        "application",
        "applications",
        "app",
        "process",
        "dienst",
        "servicio",
        "servizio",
        "servizi",
        "serviço",
        "name",
        "label",
        "daemon",
        "usecase",
    ]) {
        return Some(Role::Service);
    }
    if has(&[
        "agent",
        "component",
        "components",
        "node",
        "nodes",
        "role",
        "server",
        "servers",
        "host",
        "hosts",
        "machine",
        "appliance",
        "device",
        "product",
        "feature",
        "instance",
        "system",
        "module",
        "vm",
        "tier",
    ]) {
        return Some(Role::Node);
    }
    if has(&["no", "id", "nr", "rule", "line", "file", "section", "row", "category", "default", "version"])
        || words.is_empty() && text.contains('#')
    {
        return Some(Role::Ignored);
    }
    None
}
