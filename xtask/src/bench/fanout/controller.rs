//! The controller's process: the store, the core and the server as users run them.
//!
//! In: how many agents. Out: times and memory. Never: an agent in the same process.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringwall_controller::server::{self, Agents, Control};
use ringwall_controller::store::Sqlite;
use ringwall_controller::system::{fill, now};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::fleet::Fleet;
use super::{Figures, Load, ROUNDS, Result, Rounds, WARM, cpu, monotonic, percentile, resident};

pub fn run(count: usize) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let fleet = runtime.block_on(Fleet::new(count))?;
    let control = runtime.block_on(server::drive(fleet.store.clone(), now, Vec::new()))?;
    let acceptor = fleet.acceptor()?;
    let (server, port) = runtime.block_on(serve(&fleet, &control, &acceptor, 0))?;
    let before = resident()?;

    let begun = monotonic();
    let mut load = Load::start("agents", &fleet.folder, port)?;
    let connected = load.next("all")?;
    let mut figures = Figures::from([("connect".into(), connected[0].saturating_sub(begun) as f64 / 1e9)]);
    // What was written of their greetings is in the store, and its memory is free.
    std::thread::sleep(Duration::from_secs(3));
    let with_all = resident()?;
    figures.insert("each".into(), (with_all - before) / count as f64 / 1e3);
    figures.insert("resident".into(), with_all / 1e6);

    // Agents know the list, and every change from now on is a delta.
    runtime.block_on(change(&control, 0))?;
    load.next("round")?;
    let (mut rounds, mut calls, mut used) = (Rounds::default(), Vec::new(), 0.0);
    for round in 1..=WARM + ROUNDS {
        let (begun, cpu_before) = (monotonic(), cpu());
        runtime.block_on(change(&control, round))?;
        let called = monotonic();
        let received = load.next("round")?;
        if round > WARM {
            rounds.add(begun, &received)?;
            calls.push(called.saturating_sub(begun) as f64 / 1e6);
        }
        // Acknowledgements are a part of it.
        std::thread::sleep(Duration::from_millis(20));
        if round > WARM {
            used += cpu() - cpu_before;
        }
    }
    figures.extend(rounds.figures());
    figures.insert("call".into(), percentile(&mut calls, 0.5));
    figures.insert("cpu".into(), used * 1e3 / ROUNDS as f64);
    figures.insert("after".into(), resident()? / 1e6);

    let (begun, cpu_before) = (monotonic(), cpu());
    server.abort();
    let (_server, _) = runtime.block_on(async {
        let _ = server.await;
        serve(&fleet, &control, &acceptor, port).await
    })?;
    let connected = load.next("all")?;
    figures.insert("reconnect".into(), connected[0].saturating_sub(begun) as f64 / 1e9);
    figures.insert("reconnect_cpu".into(), cpu() - cpu_before);
    drop(load);
    runtime.shutdown_background();
    Ok(figures)
}

async fn serve(fleet: &Fleet, control: &Control<Sqlite>, acceptor: &TlsAcceptor, port: u16) -> Result<(JoinHandle<std::io::Error>, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    let agents = Agents::new(fleet.store.clone(), fleet.authority.clone(), control.clone(), now, fill);
    let acceptor = acceptor.clone();
    Ok((tokio::spawn(server::serve(listener, agents, move || acceptor.clone())), port))
}

async fn change(control: &Control<Sqlite>, round: usize) -> Result<()> {
    let address = Ipv4Addr::from_bits(0xcb00_7100 + u32::try_from(round)?);
    control.change_list("blocks".parse()?, vec![(IpAddr::from(address).into(), Some(Duration::from_secs(3600)))], Vec::new()).await?;
    Ok(())
}
