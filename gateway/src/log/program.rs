//! The program's own log, on standard error.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How the program's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people and for the journal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. `filter` is a list of `target=level`; libraries that name subscribers at their
/// usual level are held to warnings unless the filter says otherwise.
///
/// # Errors
///
/// The filter cannot be read.
pub(crate) fn start(
    filter: &str,
    format: LogFormat,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(format!("{QUIET},{filter}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

/// hickory logs each answer with the subscriber's address, and trouble with the name asked for;
/// pingora logs each session that a subscriber broke off.
const QUIET: &str = "hickory_server=off,hickory_net=off,hickory_resolver=off,hickory_proto=off,\
                     pingora=off,pingora_core=off,pingora_proxy=off,rustls=warn,\
                     h2=warn";

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::EnvFilter;

    use super::QUIET;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Heard {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn case_79_hears_nothing_of_subscribers_from_the_libraries() {
        let heard = Heard::default();
        let writer = heard.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(format!("{QUIET},info")))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!(target: "hickory_server::server", "request:1 src:UDP://192.0.2.1#53 A:secret");
            tracing::error!(target: "hickory_resolver::name_server", "secret failed");
            tracing::error!(target: "pingora_proxy", "secret broke off");
            tracing::info!("our own words");
        });
        let heard = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
        assert!(heard.contains("our own words") && !heard.contains("secret"), "{heard}");
    }
}
