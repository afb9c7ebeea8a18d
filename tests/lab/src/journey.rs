//! Journeys: what a SIM lives through, step by step, each step with what must be seen.

use std::time::Duration;

use crate::{
    clock,
    world::{Form, World},
};

mod expect;
mod lift;
mod unprovisioned;

/// A named sequence of steps.
#[derive(Debug, Clone, Copy)]
pub struct Journey {
    /// The name it is called by.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    steps: fn(&World) -> Vec<Step>,
}

/// Where a step can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// In every form of the world.
    Anywhere,
    /// Only with namespaces: it needs steering, addresses of its own or a packet counter.
    Namespaces,
}

/// One step.
pub struct Step {
    group: &'static str,
    name: String,
    outlook: Outlook,
    measures: bool,
    check: Check,
}

type Check = Box<dyn Fn(&World) -> Result<String, String>>;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was expected was seen.
    Passed {
        /// What was seen.
        seen: String,
    },
    /// Something else was seen.
    Failed {
        /// What was expected and what was seen.
        seen: String,
    },
    /// The world's form cannot show it.
    NotShown,
}

/// A step that was done.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Its group.
    pub group: &'static str,
    /// What it expects.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Time it took.
    pub elapsed: Duration,
    /// Whether what was seen is a measurement, to be told even if the step passed.
    pub measures: bool,
}

/// All journeys.
#[must_use]
pub fn journeys() -> &'static [Journey] {
    &JOURNEYS
}

/// The journey of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Journey> {
    JOURNEYS.iter().find(|journey| journey.name == name)
}

/// Lives through a journey; `watch` is told the number of steps and each step as it is done.
pub fn perform(
    journey: &Journey,
    world: &World,
    mut watch: impl FnMut(usize, &StepReport),
) -> Vec<StepReport> {
    let steps = (journey.steps)(world);
    let total = steps.len();
    steps
        .into_iter()
        .map(|step| {
            let report = step.perform(world);
            watch(total, &report);
            report
        })
        .collect()
}

impl Step {
    /// A step; `check` returns what it saw, as success or as failure.
    pub(crate) fn new(
        group: &'static str,
        name: impl Into<String>,
        outlook: Outlook,
        check: impl Fn(&World) -> Result<String, String> + 'static,
    ) -> Self {
        Self { group, name: name.into(), outlook, measures: false, check: Box::new(check) }
    }

    /// Says that what is seen is a measurement.
    fn measuring(self) -> Self {
        Self { measures: true, ..self }
    }

    fn perform(self, world: &World) -> StepReport {
        let start = clock::now();
        let verdict = match (self.outlook, world.form()) {
            (Outlook::Namespaces, Form::Loopback) => Verdict::NotShown,
            (Outlook::Anywhere, _) | (Outlook::Namespaces, Form::Namespaces) => {
                match (self.check)(world) {
                    Ok(seen) => Verdict::Passed { seen },
                    Err(seen) => Verdict::Failed { seen },
                }
            }
        };
        let Self { group, name, measures, .. } = self;
        StepReport { group, name, verdict, elapsed: start.elapsed(), measures }
    }
}

impl StepReport {
    /// Whether the step failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. })
    }
}

static JOURNEYS: [Journey; 2] = [unprovisioned::JOURNEY, lift::JOURNEY];
