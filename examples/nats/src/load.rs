//! A load: desks and processes full of devices, over servers that are killed. At the end, every
//! text was shown once on every device that it was for.

use std::env;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::tally::Tally;
use crate::{Result, servers_are_up};

/// A process full of devices.
struct Process {
    child: Child,
    stages: ChildStdin,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Heard {
    stage: usize,
    ready: usize,
    written: usize,
    shown: usize,
}

pub(crate) async fn run(plan: &Plan) -> Result {
    let mut cluster = Cluster::start(plan.servers, &plan.devices())?;
    let servers = cluster.addresses();
    servers_are_up(&servers, plan.servers).await?;
    let servers = servers.join(",");
    let count = plan.desks.to_string();
    let _desks = (0..plan.desks)
        .map(|index| {
            let arguments = ["desk", &servers, &index.to_string(), &count];
            Ok(program()?.args(arguments).kill_on_drop(true).spawn()?)
        })
        .collect::<Result<Vec<_>>>()?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut processes = (0..plan.processes)
        .map(|process| Process::start(plan, &servers, process, &tally))
        .collect::<Result<Vec<_>>>()?;

    let devices = plan.accounts.saturating_mul(2);
    let begun = Instant::now();
    until(&processes, plan, |heard| heard.ready == devices, "register").await?;
    println!("{devices} devices are registered after {:.1} s", begun.elapsed().as_secs_f64());
    next(&mut processes).await?;
    until(&processes, plan, |heard| heard.ready == devices, "found groups").await?;
    println!("their groups are there after {:.1} s", begun.elapsed().as_secs_f64());

    next(&mut processes).await?;
    let begun = Instant::now();
    let texts = plan.accounts.saturating_mul(plan.texts);
    let all = (0..plan.accounts)
        .flat_map(|account| (0..plan.texts).map(move |number| (account, number)))
        .fold(0_usize, |sum, (account, number)| {
            sum.saturating_add(plan.readers(account, number).len())
        });
    let mut kills = 0_u32;
    let shown = {
        let written = |heard: Heard| heard.written >= texts && heard.shown >= all;
        let shown = until(&processes, plan, written, "show everything");
        tokio::select! {
            shown = shown => shown,
            Err(error) = kill(&mut cluster, plan, &mut kills) => Err(error),
        }
    };
    let took = begun.elapsed().as_secs_f64();
    // What is shown twice may be still to come.
    sleep(Duration::from_secs(2)).await;
    next(&mut processes).await?;
    for process in &mut processes {
        process.child.wait().await?;
    }
    // The last lines are read by then.
    sleep(Duration::from_millis(300)).await;
    let mut tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    let [half, most, nearly, last] = tally.delays([500, 950, 990, 1_000]);
    println!(
        "{texts} texts, {all} showings in {took:.1} s; {kills} servers killed, {} connections cut",
        tally.cuts
    );
    println!("{:.0} texts and {:.0} showings a second", per(texts, took), per(all, took));
    println!(
        "from writing to showing: half {half} ms, 95 % {most} ms, 99 % {nearly} ms, all {last} ms"
    );
    for (index, bytes) in cluster.stored().into_iter().enumerate() {
        println!("server {index} has {:.1} MB", per(usize::try_from(bytes)?, 1e6));
    }
    let faults = tally.faults(plan);
    faults.iter().take(20).for_each(|fault| eprintln!("{fault}"));
    shown?;
    if faults.is_empty() {
        println!("every text was shown exactly once on every device that it was for");
        Ok(())
    } else {
        Err(format!("{} faults", faults.len()).into())
    }
}

fn per(count: usize, of: f64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / of
}

fn program() -> Result<Command> {
    Ok(Command::new(env::current_exe()?))
}

impl Process {
    fn start(
        plan: &Plan,
        servers: &str,
        process: usize,
        tally: &Arc<Mutex<Tally>>,
    ) -> Result<Self> {
        let mut child = program()?
            .args(["devices", servers, &process.to_string()])
            .args(plan.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stages, lines) = (child.stdin.take(), child.stdout.take());
        let (stages, lines) = stages.zip(lines).ok_or("no pipes")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (notes, tally) = (Arc::clone(&heard), Arc::clone(tally));
        tokio::spawn(async move {
            let mut lines = BufReader::new(lines).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match Heard::of(&line) {
                    Some(heard) => *notes.lock().unwrap_or_else(PoisonError::into_inner) = heard,
                    None => tally.lock().unwrap_or_else(PoisonError::into_inner).take(&line),
                }
            }
        });
        Ok(Self { child, stages, heard })
    }
}

impl Heard {
    fn of(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("far ")?.split(' ').map(|word| word.parse().unwrap_or(0));
        let mut word = || words.next();
        Some(Self { stage: word()?, ready: word()?, written: word()?, shown: word()? })
    }
}

/// What all processes together say, if all are in the same stage.
fn heard(processes: &[Process]) -> Heard {
    let mut all = Heard { stage: usize::MAX, ..Heard::default() };
    for process in processes {
        let heard = *process.heard.lock().unwrap_or_else(PoisonError::into_inner);
        all.stage = all.stage.min(heard.stage);
        all.ready = all.ready.saturating_add(heard.ready);
        all.written = all.written.saturating_add(heard.written);
        all.shown = all.shown.saturating_add(heard.shown);
    }
    all
}

/// Tells all processes to go on.
async fn next(processes: &mut [Process]) -> Result {
    let stage = heard(processes).stage;
    for process in &mut *processes {
        process.stages.write_all(b"next\n").await?;
        process.stages.flush().await?;
    }
    for _ in 0..100 {
        if heard(processes).stage != stage {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until it is so, and fails where nothing happens any more.
async fn until(
    processes: &[Process],
    plan: &Plan,
    is_so: impl Fn(Heard) -> bool,
    what: &str,
) -> Result {
    let (mut last, mut since, mut said) = (Heard::default(), Instant::now(), Instant::now());
    loop {
        let now = heard(processes);
        if is_so(now) {
            return Ok(());
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed().as_secs() > plan.patience {
            return Err(format!("they do not {what}").into());
        }
        if said.elapsed().as_secs() >= 10 {
            said = Instant::now();
            println!("  {} ready, {} written, {} shown", now.ready, now.written, now.shown);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Kills one server after the other, and starts each again a moment later.
async fn kill(cluster: &mut Cluster, plan: &Plan, kills: &mut u32) -> Result {
    let mut index = 0_usize;
    loop {
        if plan.kill == 0 {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_secs(plan.kill)).await;
        cluster.kill(index)?;
        *kills = kills.saturating_add(1);
        sleep(Duration::from_secs(1)).await;
        cluster.begin(index)?;
        index = index.saturating_add(1).checked_rem(plan.servers).unwrap_or(0);
    }
}
