//! Documents in the shapes that vendors use, each with what a person reads in it.
//!
//! `tests/shapes/NAME.md` or `.csv` is the document, `NAME.expected.csv` its flows in the columns of
//! `ringwall import -o csv`. A line with the direction `undecided` is a row that must be reported, known by
//! the words in its note; `deny` there is a flow that must not be. `SHOW=1` prints every flow that is missing or
//! too many, and `SHAPES=folder` measures other documents.

use crate::measure;

use measure::{figures, guide, truth};
use std::path::Path;

/// Precision and recall of ports, then of whole rows, below 1.0 for those that are known to be hard.
const FLOORS: &[(&str, [f64; 4])] = &[];

#[test]
fn documents_in_many_shapes() {
    let folder = std::env::var("SHAPES").unwrap_or_else(|_| format!("{}/tests/shapes", env!("CARGO_MANIFEST_DIR")));
    let mut paths: Vec<_> = std::fs::read_dir(Path::new(&folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.to_string_lossy().ends_with(".expected.csv"));
    paths.sort();
    let mut sums = [0.0; 4];
    let mut failures = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = ringwall_import::decode(&name, std::fs::read(path).unwrap()).unwrap();
        let (reported, expected) =
            truth(&path.with_extension("expected.csv")).into_iter().partition::<Vec<_>, _>(|row| row.is_undecided());
        let guide = guide(&name, &text);
        let is_there = |row: &measure::Expected| {
            guide.undecided.iter().any(|undecided| undecided.text.to_lowercase().contains(&row.note))
        };
        for row in reported.iter().filter(|row| !is_there(row)) {
            failures.push(format!("{name}: `{}` is not reported", row.note));
        }
        let may_be_reported = reported.len() + expected.iter().filter(|row| row.is_optional).count();
        if guide.undecided.len() > may_be_reported {
            for row in &guide.undecided {
                if std::env::var("SHOW").is_ok() {
                    println!("  undecided {}: {}", row.text, row.reason);
                }
            }
            failures.push(format!("{name}: {} rows are undecided, not {}", guide.undecided.len(), reported.len()));
        }
        let figures = figures(&name, &expected, &guide.flows);
        let floor = FLOORS.iter().find(|(known, _)| *known == name).map_or([1.0; 4], |(_, floor)| *floor);
        if figures.iter().zip(floor).any(|(figure, floor)| *figure < floor) {
            failures.push(format!("{name}: {figures:.3?} instead of {floor:?}"));
        }
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
    }
    assert!(paths.len() >= 90 || std::env::var("SHAPES").is_ok(), "documents are missing");
    println!("{} documents, mean {:.4?}", paths.len(), sums.map(|sum| sum / paths.len() as f64));
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
