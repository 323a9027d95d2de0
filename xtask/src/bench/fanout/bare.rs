//! The other side: the same bytes, over TLS connections with nothing else on them.
//!
//! In: how many. Out: times and memory. Never: HTTP/2, gRPC or a core: a task for each connection, which writes what it is
//! given.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use ringwall_protocol::{Change, Element, List};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::agents::{Seen, dial};
use super::fleet::{Fleet, clients};
use super::{Figures, Load, ROUNDS, Result, Rounds, WARM, cpu, monotonic, resident};

/// What one change is on the wire: HTTP/2's frame header (RFC 9113, 4.1), gRPC's prefix, the field of ToAgent, the list.
fn frame(round: usize) -> Bytes {
    let network = Ipv4Addr::from_bits(0xcb00_7100 + u32::try_from(round).unwrap_or(0)).into();
    let element = Element { network, length: 32, seconds: std::num::NonZeroU32::new(3600) };
    let (from, to) = (1_000 + round as u64, 1_001 + round as u64);
    let list = List { list: "blocks".into(), life: u64::MAX, change: Change::Delta { from, to, added: vec![element], removed: Vec::new() } };
    let list = list.encode();
    let mut frame = BytesMut::new();
    frame.put_bytes(0, 9 + 5 + 2);
    frame.extend_from_slice(&list);
    frame.freeze()
}

pub fn run(count: usize) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let fleet = runtime.block_on(Fleet::new(count))?;
    let acceptor = fleet.acceptor()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    let (opened, mut connections) = mpsc::channel(count);
    let before = resident()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, opened) = (acceptor.clone(), opened.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let (queue, mut frames) = mpsc::channel::<Bytes>(64);
                let _ = opened.send(queue).await;
                while let Some(frame) = frames.recv().await {
                    if stream.write_all(&frame).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut load = Load::start("bare-agents", &fleet.folder, port)?;
    load.next("all")?;
    let queues = runtime.block_on(async {
        let mut queues = Vec::with_capacity(count);
        while queues.len() < count {
            queues.push(connections.recv().await.ok_or("a connection")?);
        }
        Result::Ok(queues)
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let mut figures = Figures::from([("each".into(), (resident()? - before) / count as f64 / 1e3)]);
    let (mut rounds, mut used) = (Rounds::default(), 0.0);
    for round in 0..WARM + ROUNDS {
        let (begun, cpu_before) = (monotonic(), cpu());
        let (frame, queues) = (frame(round), queues.clone());
        // From a task of the runtime, as the core's is.
        runtime.block_on(runtime.spawn(async move {
            for queue in &queues {
                let _ = queue.try_send(frame.clone());
            }
        }))?;
        let received = load.next("round")?;
        std::thread::sleep(Duration::from_millis(20));
        if round >= WARM {
            rounds.add(begun, &received)?;
            used += cpu() - cpu_before;
        }
    }
    figures.extend(rounds.figures());
    figures.insert("cpu".into(), used * 1e3 / ROUNDS as f64);
    drop(load);
    runtime.shutdown_background();
    Ok(figures)
}

pub fn agents(folder: &Path, port: u16) -> Result<()> {
    let clients = clients(folder)?;
    let (seen, length) = (Seen::of(clients.len()), frame(0).len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for client in clients {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut stream = dial(client, port).await.expect("the other side listens");
                seen.connected();
                let mut frame = vec![0; length];
                while stream.read_exact(&mut frame).await.is_ok() {
                    seen.received();
                }
            });
        }
        std::future::pending::<Result<()>>().await
    })
}
