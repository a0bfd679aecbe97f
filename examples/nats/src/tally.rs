//! What was shown, against what the plan has.

use std::collections::BTreeMap;

use crate::plan::Plan;

#[derive(Default)]
pub(crate) struct Tally {
    /// By text and device: how often it was shown there.
    shown: BTreeMap<(String, String), usize>,
    /// Milliseconds from the writing to the showing.
    delays: Vec<u64>,
    wrong: Vec<String>,
    pub(crate) cuts: usize,
}

impl Tally {
    /// A line of a process.
    pub(crate) fn take(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["shown", text, device, delay] => {
                let times = self.shown.entry((text.into(), device.into())).or_default();
                *times = times.saturating_add(1);
                self.delays.push(delay.parse().unwrap_or(u64::MAX));
            }
            ["cuts", cuts] => self.cuts = self.cuts.saturating_add(cuts.parse().unwrap_or(0)),
            _ => self.wrong.push(line.into()),
        }
    }

    /// What is not as it should be: every text is to be shown once on every device that it is for,
    /// and nowhere else.
    pub(crate) fn faults(mut self, plan: &Plan) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.wrong);
        for account in 0..plan.accounts {
            for number in 0..plan.texts {
                for reader in plan.readers(account, number) {
                    let text = format!("{account}/{number}");
                    match self.shown.remove(&(text, reader.to_string())) {
                        Some(1) => {}
                        times => faults.push(format!(
                            "{account}/{number} was shown {} times on {reader}",
                            times.unwrap_or(0)
                        )),
                    }
                }
            }
        }
        let nowhere_else = |((text, device), _)| format!("{text} was shown on {device}");
        faults.extend(self.shown.into_iter().map(nowhere_else));
        faults
    }

    /// The delays in milliseconds that so many in a thousand are within.
    pub(crate) fn delays<const N: usize>(&mut self, thousandths: [usize; N]) -> [u64; N] {
        self.delays.sort_unstable();
        let last = self.delays.len().saturating_sub(1);
        thousandths.map(|of| {
            let index = last.saturating_mul(of).checked_div(1_000).unwrap_or(0);
            self.delays.get(index).copied().unwrap_or(0)
        })
    }
}
