//! A process of a load: it has its share of the devices. Its parent says when the next stage
//! begins, a line each; it says how far it is, and at the end what was shown.

use std::cell::RefCell;
use std::io::{BufRead, Write as _, stdin, stdout};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::task::LocalSet;

use crate::Result;
use crate::device::{Device, Notes};
use crate::plan::Plan;

pub(crate) async fn run(plan: Plan, servers: Vec<String>, process: usize) -> Result {
    let (plan, servers) = (Rc::new(plan), Rc::new(servers));
    let (notes, stage) = (Rc::new(RefCell::new(Notes::default())), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&stage);
    thread::spawn(move || {
        for _line in stdin().lock().lines().map_while(std::result::Result::ok) {
            told.fetch_add(1, Ordering::SeqCst);
        }
        // The parent is gone.
        told.store(usize::MAX, Ordering::SeqCst);
    });
    let devices = LocalSet::new();
    let mut seed = u64::try_from(process)?;
    for account in plan.share(process) {
        for device in Device::pair(&plan, &servers, &notes, account)? {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            devices.spawn_local(device.live(seed));
        }
    }
    devices.run_until(say_how_far(&notes, &stage)).await?;
    let notes = notes.borrow();
    let mut out = stdout().lock();
    for (text, device, delay) in &notes.shown {
        writeln!(out, "shown {text} {device} {delay}")?;
    }
    for wrong in &notes.wrong {
        writeln!(out, "wrong {}", wrong.replace('\n', " "))?;
    }
    Ok(writeln!(out, "cuts {}", notes.cuts)?)
}

async fn say_how_far(notes: &RefCell<Notes>, stage: &AtomicUsize) -> Result {
    loop {
        {
            let mut notes = notes.borrow_mut();
            let next = stage.load(Ordering::SeqCst).min(3);
            if next != notes.stage {
                (notes.stage, notes.ready) = (next, 0);
            }
            let mut out = stdout().lock();
            let (ready, written, shown) = (notes.ready, notes.written, notes.shown.len());
            writeln!(out, "far {next} {ready} {written} {shown}")?;
            out.flush()?;
            if next == 3 {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
