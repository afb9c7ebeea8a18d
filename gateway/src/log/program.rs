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
