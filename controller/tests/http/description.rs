//! The committed description is what the code makes today. `UPDATE_SPEC=1 cargo test` writes it anew.

use std::path::Path;

use ringwall_controller::http::description;
use serde_json::Value;

#[test]
fn the_committed_description_is_todays() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    let today = description().to_pretty_json().expect("JSON") + "\n";
    if std::env::var_os("UPDATE_SPEC").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, &today).expect("the file is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == today, "docs/api/openapi.json is not what the code makes: UPDATE_SPEC=1 writes it");
}

#[test]
fn the_description_is_whole() {
    let document = serde_json::to_value(description()).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = Vec::new();
    references(&document, &mut names);
    assert!(names.len() > 50, "{}", names.len());
    for name in names {
        let pointer = name.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{name} is not in the document");
    }
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.') || text.contains(' ')), "{method} {path} says what it does");
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{id} is one operation's");
            assert!(operation["responses"]["default"]["content"]["application/problem+json"].is_object(), "{method} {path}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        // Who asks for what is not known is refused; who reads passes over it.
        let asks = ["CreateToken", "CreateAccessKey", "CommitRevision", "StartRollout", "SetSetting", "SetPlace", "Reason"].contains(&name.as_str());
        assert_eq!(schema["additionalProperties"] == false, asks, "{name}: {schema}");
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
