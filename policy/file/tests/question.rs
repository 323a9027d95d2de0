//! Questions: what they come to, and what is said of those that can't be read.

use ringwall_diagnostic::{Colour, render};
use ringwall_policy::Question;
use ringwall_policy_file::{Form, Input, Values, ask};

const POLICY: &str = "
internal: [192.0.2.0/24]
nodes:
  web-1: { addresses: [192.0.2.10], interfaces: { vpn: wg0 } }
groups:
  web: { nodes: [web-1] }
  users: { addresses: [198.51.100.0/24] }
  time: { names: [ntp.example.net] }
  partners: { addresses: $PARTNERS }
  nobody: { labels: { role: nobody }, may_be_empty: true }
services:
  galera: [tcp/4567-4568, udp/4567]
";

fn asked(text: &str, form: Form) -> ringwall_policy_file::Asked {
    let input = Input { name: "policy.yaml".into(), text: POLICY.into() };
    ask(text, form, &[input], &Values::default())
}

fn question(text: &str, form: Form) -> Question {
    let asked = asked(text, form);
    let mistakes: Vec<String> = asked.diagnostics.iter().map(|one| render(one, &asked.sources, Colour::Plain)).collect();
    asked.question.unwrap_or_else(|| panic!("{text}: {mistakes:?}"))
}

/// Source, destination, services and interface, with bars between them.
fn described(question: &Question) -> String {
    let services: Vec<&str> = question.services.iter().map(|service| service.text.as_str()).collect();
    let via = question.via.as_ref().map_or("", |via| via.as_str());
    let arrow = if question.both_ways { "<->" } else { "->" };
    format!("{} {arrow} {}|{}|{via}", question.source.text, question.destination.text, services.join(" "))
}

#[test]
fn a_question_reads_like_a_rule() {
    for (text, expected) in [
        ("users -> web tcp/443", "users -> web|tcp/443|"),
        ("users -> web", "users -> web||"),
        (" users ,web-1->  web ,  internet https,http", "users, web-1 -> web, internet|https http|"),
        ("users->web tcp/80,443, udp/53-54,60 galera", "users -> web|tcp/80,443 udp/53-54,60 galera|"),
        ("web <-> web-1 icmp/echo-request", "web <-> web-1|icmp/echo-request|"),
        ("198.51.100.7, 2001:db8::/32 -> 192.0.2.1-192.0.2.9 proto/112", "198.51.100.7, 2001:db8::/32 -> 192.0.2.1-192.0.2.9|proto/112|"),
        ("web -> internet any via vpn", "web -> internet|any|vpn"),
        ("web -> time ntp", "web -> time|ntp|"),
        ("nobody -> any", "nobody -> any||"),
    ] {
        assert_eq!(described(&question(text, Form::Flow)), expected);
    }
    assert_eq!(described(&question("web, 192.0.2.9 tcp/22", Form::Destination)), "any -> web, 192.0.2.9|tcp/22|");
    assert_eq!(described(&question("web-1", Form::Source)), "web-1 -> any||");
}

#[test]
fn ends_are_what_their_names_stand_for() {
    let found = question("web-1, 198.51.100.7 -> time", Form::Flow);
    let prefixes: Vec<String> = found.source.addresses.prefixes().iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.10/32", "198.51.100.7/32"]);
    assert!(found.destination.names.contains("ntp.example.net"));
    assert!(question("nobody -> any", Form::Flow).packets().v4.is_empty());
}

#[test]
fn mistakes_have_their_place() {
    for (text, code, place, message) in [
        ("users web tcp/443", "RW0108", "users web tcp/443", "`users web tcp/443` has no arrow `->` or `<->`"),
        ("users => web", "RW0108", "users => web", "`users => web` has no arrow `->` or `<->`"),
        (" -> web", "RW0108", " -> web", "` -> web` has nothing before its arrow"),
        ("usres -> web", "RW0201", "usres", "there is no group or node `usres`"),
        ("users -> web tcp/99999", "RW0208", "99999", "there is no port 99999"),
        ("users -> web htps", "RW0202", "htps", "there is no service `htps`"),
        ("users -> web 443", "RW0202", "443", "there is no service `443`"),
        ("192.0.2.1/24 -> web", "RW0206", "192.0.2.1/24", "`192.0.2.1/24` has bits beyond its prefix length"),
        ("192.0.2.300 -> web", "RW0205", "192.0.2.300", "`192.0.2.300` is not an address"),
        ("time -> web", "RW0304", "time", "`time` has DNS names, so it can't be a source"),
        ("web -> internet any via", "RW0108", "via", "`via` names no interface"),
        ("web -> internet any via vpn tcp/1", "RW0108", "tcp/1", "`tcp/1` stands behind the interface"),
        ("web -> internet any via wan", "RW0204", "wan", "no node has an interface `wan`"),
        ("partners -> web", "RW0211", "$PARTNERS", "`$PARTNERS` is not bound to anything"),
        ("users,, users -> web", "RW0108", "users,, users -> web", "there is nothing beside this comma"),
        ("users -> web -> users", "RW0108", "users -> web -> users", "`users -> web -> users` has more than one arrow"),
        ("", "RW0108", "", "`` has no arrow `->` or `<->`"),
    ] {
        let asked = asked(text, Form::Flow);
        assert_eq!(asked.question, None, "{text}");
        let found = asked.diagnostics.iter().find(|one| one.message == message);
        let found = found.unwrap_or_else(|| panic!("{text}: {:?}", asked.diagnostics));
        assert_eq!(found.code.0, code, "{text}");
        let span = found.primary.as_ref().expect("a place").span;
        assert_eq!(asked.sources.snippet(span), place, "{text}");
    }
    for form in [Form::Destination, Form::Source] {
        for (text, message) in [("users -> web", "one end is wanted here, without an arrow"), ("  ", "the question names nobody")] {
            assert_eq!(asked(text, form).diagnostics[0].message, message);
        }
    }
}

#[test]
fn no_question_panics() {
    let pieces = ["users", "->", "<->", ",", " ", "via", "tcp/", "443", "$X", "é->", "/"];
    for first in pieces {
        for second in pieces {
            for third in pieces {
                let text = format!("{first}{second}{third}");
                for form in [Form::Flow, Form::Destination, Form::Source] {
                    let asked = asked(&text, form);
                    assert_eq!(asked.question.is_none(), !asked.diagnostics.is_empty(), "{text}");
                }
            }
        }
    }
}
