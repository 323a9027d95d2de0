//! `import csv|policy FILE`: prints what the importer makes of a file.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut sources = ringwall_diagnostic::Sources::new();
    let text = ringwall_import::decode(&args[2], std::fs::read(&args[2]).unwrap()).unwrap();
    let id = sources.add(args[2].rsplit('/').next().unwrap(), text);
    let (guide, diagnostics) = ringwall_import::read(&sources, id);
    for d in &diagnostics { eprintln!("{} {} {}", d.code, d.message, d.primary.as_ref().map(|l| sources.place(l.span)).unwrap_or_default()); }
    match args[1].as_str() {
        "csv" => print!("{}", ringwall_import::to_csv(&guide, &sources)),
        "none" => println!("{} flows, {} undecided, {} diagnostics", guide.flows.len(), guide.undecided.len(), diagnostics.len()),
        _ => print!("{}", ringwall_import::to_policy(&[guide], &sources, &ringwall_import::Stamp { program: "ringwall 0.1.0".into(), date: String::new() })),
    }
}
