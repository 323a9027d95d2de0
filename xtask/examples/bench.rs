#[path = "../src/bench/mod.rs"] mod bench;
fn main() { bench::run(std::env::args().nth(1).as_deref()).unwrap() }
