//! The gateway's metrics as numbers: just enough of the Prometheus text format to ask for a sum.

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads a scrape; lines it does not understand are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(sample).collect() }
    }

    /// The sum of the samples of that name which carry all these labels; `None` when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self
            .samples
            .iter()
            .filter(|sample| {
                sample.name == name
                    && labels.iter().all(|(key, value)| {
                        sample.labels.iter().any(|(k, v)| k == key && v == value)
                    })
            })
            .map(|sample| sample.value)
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The values one label takes in samples of that name, in order of appearance.
    pub fn label_values<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
            .flat_map(|sample| &sample.labels)
            .filter(move |(key, _)| key == label)
            .map(|(_, value)| value.as_str())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = labels(rest)?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, Vec::new(), rest)
        }
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads `key="value",…}` and returns what follows the brace.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = quoted.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, letter) => value.push(letter),
            }
        };
        labels.push((key.to_owned(), value));
        rest = quoted.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_left_open() {
        let scrape = Metrics::parse(
            "# HELP x y\n# TYPE x counter\nx{a=\"1\",b=\"say \\\"no\\\", }\"} 2\nx{a=\"1\",b=\"c\"} 3.5 1700\n\
             x{a=\"2\"} 10\ny 7\nbroken{a=\n",
        );
        assert_eq!(scrape.sum("x", &[("a", "1")]), Some(5.5));
        assert_eq!(scrape.sum("x", &[("b", "say \"no\", }")]), Some(2.0));
        assert_eq!(scrape.sum("x", &[]), Some(15.5));
        assert_eq!(scrape.sum("y", &[]), Some(7.0));
        assert_eq!(scrape.sum("y", &[("a", "1")]), None);
        assert_eq!(scrape.sum("broken", &[]), None);
        assert_eq!(scrape.label_values("x", "a").collect::<Vec<_>>(), ["1", "1", "2"]);
    }
}
