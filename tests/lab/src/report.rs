//! What a journey's user sees: progress while it runs, a table at the end, and the same for
//! machines.

use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::journey::{StepReport, Verdict};

/// Steps that were done, of one journey.
#[derive(Debug, Clone)]
pub(crate) struct JourneyReport {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<StepReport>,
    pub(crate) elapsed: Duration,
}

/// One line of the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    group: &'static str,
    passed: usize,
    failed: usize,
    not_shown: usize,
    elapsed: Duration,
}

impl JourneyReport {
    pub(crate) fn failures(&self) -> usize {
        self.steps.iter().filter(|step| step.is_failed()).count()
    }

    /// The end table, then every failing step in full.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header([self.name, "passed", "failed", "not shown", "time"]);
        for tally in self.tallies() {
            table.add_row([
                tally.group.to_owned(),
                tally.passed.to_string(),
                tally.failed.to_string(),
                tally.not_shown.to_string(),
                format!("{} ms", tally.elapsed.as_millis()),
            ]);
        }
        let all = self.total();
        table.add_row([
            "all".to_owned(),
            all.passed.to_string(),
            all.failed.to_string(),
            all.not_shown.to_string(),
            format!("{:.1} s", self.elapsed.as_secs_f64()),
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{table}\n");
        if all.not_shown > 0 {
            let _ = writeln!(
                text,
                "{} steps are not shown on loopback: they need steering, addresses of their own or a packet counter.",
                all.not_shown
            );
        }
        for step in &self.steps {
            match &step.verdict {
                Verdict::Failed { seen } => {
                    let _ = writeln!(text, "FAILED {}: {}\n       {seen}", step.group, step.name);
                }
                Verdict::Passed { seen } if step.measures => {
                    let _ = writeln!(text, "{}: {}\n       {seen}", step.group, step.name);
                }
                Verdict::Passed { .. } | Verdict::NotShown => {}
            }
        }
        text
    }

    /// The journey as a JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|step| {
                let (verdict, seen) = match &step.verdict {
                    Verdict::Passed { seen } => ("passed", Some(seen)),
                    Verdict::Failed { seen } => ("failed", Some(seen)),
                    Verdict::NotShown => ("not-shown", None),
                };
                serde_json::json!({
                    "group": step.group,
                    "name": step.name,
                    "verdict": verdict,
                    "seen": seen,
                    "milliseconds": milliseconds(step.elapsed),
                })
            })
            .collect();
        let all = self.total();
        serde_json::json!({
            "name": self.name,
            "passed": all.passed,
            "failed": all.failed,
            "not_shown": all.not_shown,
            "milliseconds": milliseconds(self.elapsed),
            "steps": steps,
        })
    }

    fn suite(&self) -> TestSuite {
        let mut suite = TestSuite::new(self.name);
        suite.set_time(self.elapsed);
        for step in &self.steps {
            let mut status = match &step.verdict {
                Verdict::Passed { .. } => TestCaseStatus::success(),
                Verdict::Failed { .. } => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Verdict::NotShown => TestCaseStatus::skipped(),
            };
            match &step.verdict {
                Verdict::Failed { seen } => {
                    status.set_message(seen);
                }
                Verdict::NotShown => {
                    status.set_message("not shown on loopback");
                }
                Verdict::Passed { .. } => {}
            }
            let mut case = TestCase::new(&step.name, status);
            case.set_classname(format!("{}.{}", self.name, step.group));
            case.set_time(step.elapsed);
            if let Verdict::Passed { seen } = &step.verdict {
                case.set_system_out(seen);
            }
            suite.add_test_case(case);
        }
        suite
    }

    fn tallies(&self) -> Vec<Tally> {
        let mut tallies: Vec<Tally> = Vec::new();
        for step in &self.steps {
            let at = tallies.iter().position(|tally| tally.group == step.group);
            let at = at.unwrap_or_else(|| {
                tallies.push(Tally { group: step.group, ..Tally::default() });
                tallies.len() - 1
            });
            if let Some(tally) = tallies.get_mut(at) {
                tally.add(step);
            }
        }
        tallies
    }

    fn total(&self) -> Tally {
        let mut all = Tally::default();
        self.steps.iter().for_each(|step| all.add(step));
        all
    }
}

impl Tally {
    fn add(&mut self, step: &StepReport) {
        match step.verdict {
            Verdict::Passed { .. } => self.passed += 1,
            Verdict::Failed { .. } => self.failed += 1,
            Verdict::NotShown => self.not_shown += 1,
        }
        self.elapsed += step.elapsed;
    }
}

/// All journeys as a JUnit document.
///
/// # Errors
/// When the document cannot be serialized.
pub(crate) fn junit(reports: &[JourneyReport]) -> Result<String, quick_junit::SerializeError> {
    let mut document = Report::new("postern lab");
    for report in reports {
        document.add_test_suite(report.suite());
    }
    document.set_time(reports.iter().map(|report| report.elapsed).sum());
    document.to_string()
}

/// Progress on standard error: a bar on a terminal, else one line a group.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    group: &'static str,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, group: "" }
    }

    pub(crate) fn step(&mut self, total: usize, step: &StepReport) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::try_from(total).unwrap_or_default());
                bar.set_message(format!("{}: {}", step.group, step.name));
                bar.inc(1);
                if let Verdict::Failed { seen } = &step.verdict {
                    bar.println(format!("FAILED {}: {}: {seen}", step.group, step.name));
                }
            }
            None => {
                if self.group != step.group {
                    self.group = step.group;
                    crate::front::tell(&format!("{} …", step.group));
                }
                if let Verdict::Failed { seen } = &step.verdict {
                    crate::front::tell(&format!("FAILED {}: {}: {seen}", step.group, step.name));
                }
            }
        }
    }

    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> JourneyReport {
        let step = |group, name: &str, verdict| StepReport {
            group,
            name: name.to_owned(),
            verdict,
            elapsed: Duration::from_millis(4),
            measures: false,
        };
        JourneyReport {
            name: "j",
            steps: vec![
                step("a", "one", Verdict::Passed { seen: "200".into() }),
                step("b", "two <&>", Verdict::Failed { seen: "nothing".into() }),
                step("a", "three", Verdict::NotShown),
            ],
            elapsed: Duration::from_millis(12),
        }
    }

    #[test]
    fn the_table_counts_by_group_and_tells_failures_in_full() {
        let text = report().text();
        let groups: Vec<_> =
            report().tallies().iter().map(|tally| (tally.group, tally.passed)).collect();
        assert_eq!(groups, [("a", 1), ("b", 0)]);
        assert!(text.contains("FAILED b: two <&>\n       nothing"), "{text}");
        assert!(text.contains("1 steps are not shown on loopback"), "{text}");
    }

    #[test]
    fn junit_has_one_case_a_step() {
        let document = junit(&[report()]).unwrap();
        assert_eq!(document.matches("<testcase").count(), 3, "{document}");
        assert!(document.contains("tests=\"3\" skipped=\"1\""), "{document}");
        assert!(document.contains("failures=\"1\""), "{document}");
        assert!(document.contains("two &lt;&amp;&gt;"), "{document}");
    }

    #[test]
    fn json_counts_and_names_each_step() {
        let value = report().json();
        assert_eq!(value["passed"], 1);
        assert_eq!(value["steps"][1]["verdict"], "failed");
    }
}
