//! The JSON Schema (draft-07) of policy files for editors, from the table of keys that the reader
//! uses too.

use serde_json::{Map, Value, json};

use crate::keys::{DOCUMENT, Key, Shape, Table};

/// `Name::new`, as a pattern.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

/// The schema of one policy file.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = table(&DOCUMENT, &mut definitions);
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("Ringwall policy");
    root["definitions"] = Value::Object(definitions);
    root
}

fn table(table: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        properties.insert(key.name.to_owned(), described(key, definitions));
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !table.required.is_empty() {
        schema["required"] = json!(table.required);
    }
    if !table.one_of.is_empty() {
        schema["oneOf"] = table.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    schema
}

fn described(key: &Key, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(key.shape, definitions);
    // Draft-07 ignores what stands beside a `$ref`.
    if schema.get("$ref").is_some() {
        schema = json!({ "allOf": [schema] });
    }
    schema["description"] = json!(key.about);
    schema
}

fn shape(shape: Shape, definitions: &mut Map<String, Value>) -> Value {
    // Numbers and flags without quotes are read as the text that stands there.
    let text = json!({ "type": ["string", "number", "boolean"] });
    let one_or_many = |item: Value| json!({ "anyOf": [item, { "type": "array", "items": item }] });
    match shape {
        Shape::Text => text,
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::OneOf(choices) => {
            let numbers = choices.iter().filter_map(|choice| choice.parse::<f64>().ok()).map(|number| json!(number));
            let all: Vec<Value> = choices.iter().map(|choice| json!(choice)).chain(numbers).collect();
            json!({ "enum": all })
        }
        Shape::Words | Shape::Services => one_or_many(text),
        Shape::Addresses => one_or_many(json!({ "type": "string" })),
        Shape::Ports => one_or_many(json!({ "type": ["string", "integer"], "pattern": "^[0-9]" })),
        Shape::Line => json!({ "type": "string", "pattern": "^[^<>]*[^<>\\s][^<>]*(<->|->)[^<>]*[^<>\\s][^<>]*$" }),
        Shape::Duration => json!({ "type": "string", "pattern": "^[0-9]+[smhd]$" }),
        Shape::Date => json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }),
        Shape::Texts => named(text),
        Shape::Flags => named(json!({ "type": "boolean" })),
        Shape::ServiceMap => named(one_or_many(text)),
        Shape::One(table) => reference(table, definitions),
        Shape::Map(table) => named(reference(table, definitions)),
        Shape::List(table) => json!({ "type": ["array", "null"], "items": reference(table, definitions) }),
    }
}

fn named(value: Value) -> Value {
    json!({ "type": ["object", "null"], "propertyNames": { "pattern": NAME }, "additionalProperties": value })
}

fn reference(table: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    let name = table.what.trim_start_matches("an ").trim_start_matches("a ").replace(['`', ' '], "");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let schema = self::table(table, definitions);
        definitions.insert(name.clone(), schema);
    }
    json!({ "$ref": format!("#/definitions/{name}") })
}
