//! The shared store: Redis or Valkey, alone or behind Sentinel.
//!
//! Writes go through a guard that merges as the table does, so that two nodes, a late write or a
//! replica that came back leave the newest word of each session. A node begins by reading all rows
//! and then follows the stream of changes from where it stood before; after every lost connection
//! it reads all again and writes all it has, because a server may come back older, or empty.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Pipeline,
    aio::MultiplexedConnection, cmd, streams::StreamReadReply,
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use crate::{
    clock,
    sims::{
        Sims,
        rows::{Batch, Row},
        seconds,
    },
};

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisConfig {
    /// `redis://HOST:PORT/DATABASE`, tried in order; with a master's name, the Sentinels.
    pub(crate) servers: Vec<String>,
    /// The name of the master that Sentinel watches.
    pub(crate) sentinel_master: Option<String>,
    /// The password of the servers; it never prints.
    pub(crate) password: Option<Password>,
    /// What every key begins with.
    pub(crate) prefix: String,
}

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

/// One table's way to the servers.
#[derive(Debug)]
pub(crate) struct Redis {
    config: Arc<RedisConfig>,
    connection: Option<(MultiplexedConnection, String)>,
    /// Seconds that our clock is ahead of the server's.
    skew: f64,
    /// Tells the follower that the server may have lost something.
    lost: Arc<Notify>,
    /// Follows the stream as long as this lives.
    _follower: JoinSet<()>,
}

/// Why the servers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisError {
    /// The server, or the way to it.
    #[error("the state server fails")]
    Server(#[from] redis::RedisError),
    /// No answer in time.
    #[error("the state server does not answer within {} s", COMMAND_TIME.as_secs())]
    Silent,
    /// A row cannot be encoded.
    #[error("a row cannot be written down")]
    Encode(#[from] serde_json::Error),
    /// Sentinel knows no such master.
    #[error("no Sentinel knows the master {name}")]
    NoMaster {
        /// The name.
        name: String,
    },
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Password(…)")
    }
}

impl Redis {
    /// Fills `sims` from the servers if they answer, and follows them from then on.
    pub(crate) async fn open(config: &RedisConfig, sims: Arc<Sims>) -> Self {
        let config = Arc::new(config.clone());
        let lost = Arc::new(Notify::new());
        let began = async {
            let mut connection = connect(&config).await?;
            let last = last_id(&mut connection, &config).await?;
            read_all(&mut connection, &config, &sims).await?;
            Ok::<_, RedisError>((connection, last))
        };
        let began = match timeout(START_TIME, began).await {
            Ok(Ok(began)) => Some(began),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "starting without the shared state");
                None
            }
            Err(_) => {
                tracing::warn!("starting without the shared state: the server is too slow");
                None
            }
        };
        let mut follower = JoinSet::new();
        follower.spawn(follow(Arc::clone(&config), sims, Arc::clone(&lost), began));
        Self { config, connection: None, skew: 0.0, lost, _follower: follower }
    }

    /// Seconds that our clock is ahead of the server's, as of the last commit.
    pub(crate) fn skew(&self) -> f64 {
        self.skew
    }

    /// Writes a batch; an empty one asks whether the server is there.
    ///
    /// # Errors
    ///
    /// Some of it may be written, which does no harm.
    pub(crate) async fn commit(&mut self, batch: &Batch) -> Result<(), RedisError> {
        let done = timeout(COMMAND_TIME, self.try_commit(batch)).await;
        let done = done.unwrap_or(Err(RedisError::Silent));
        if done.is_err() && self.connection.take().is_some() {
            self.lost.notify_one();
        }
        done
    }

    async fn try_commit(&mut self, batch: &Batch) -> Result<(), RedisError> {
        if self.connection.is_none() {
            let mut connection = connect(&self.config).await?;
            let guard = cmd("SCRIPT").arg("LOAD").arg(GUARD).query_async(&mut connection).await?;
            self.connection = Some((connection, guard));
        }
        let Some((connection, guard)) = &mut self.connection else { return Ok(()) };
        let (seconds, micros): (i64, i64) = cmd("TIME").query_async(connection).await?;
        let now = clock::now();
        self.skew = (now.as_microsecond() - seconds * 1_000_000 - micros) as f64 / 1e6;
        let now = now.as_second();
        for rows in batch.rows.chunks(PIPELINE) {
            let mut pipeline = Pipeline::new();
            for (key, row) in rows {
                // Bindings that went lapse there by themselves.
                if row.is_none() && key.starts_with("a|") {
                    continue;
                }
                let command = pipeline.cmd("EVALSHA").arg(&*guard).arg(2);
                command.arg(format!("{}:{key}", self.config.prefix)).arg(stream(&self.config));
                let text = row.as_ref().map(serde_json::to_string).transpose()?;
                command.arg(key).arg(now).arg(STREAM_MAX).arg(text.unwrap_or_default()).ignore();
            }
            let () = pipeline.query_async(connection).await?;
        }
        Ok(())
    }
}

/// Merges what other nodes write, for ever.
async fn follow(
    config: Arc<RedisConfig>,
    sims: Arc<Sims>,
    lost: Arc<Notify>,
    mut began: Option<(MultiplexedConnection, String)>,
) {
    loop {
        let followed = tokio::select! {
            followed = follow_once(&config, &sims, began.take()) => followed,
            () = lost.notified() => Ok(()),
        };
        if let Err(error) = followed {
            tracing::debug!(%error, "the stream of changes broke off");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(
    config: &RedisConfig,
    sims: &Sims,
    began: Option<(MultiplexedConnection, String)>,
) -> Result<(), RedisError> {
    let (mut connection, mut last) = match began {
        Some(began) => began,
        None => {
            let mut connection = connect(config).await?;
            let last = last_id(&mut connection, config).await?;
            read_all(&mut connection, config, sims).await?;
            // What a server forgot while it was away is told again.
            sims.soil_all();
            tracing::info!("shared state read; all that is known here is written again");
            (connection, last)
        }
    };
    let mut until_reading = clock::monotonic() + READ_EVERY;
    loop {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1000).arg("BLOCK").arg(BLOCK.as_millis().to_string());
        command.arg("STREAMS").arg(stream(config)).arg(&last);
        let answer = timeout(COMMAND_TIME, command.query_async(&mut connection)).await;
        let reply: Option<StreamReadReply> = answer.map_err(|_| RedisError::Silent)??;
        let entries: Vec<_> =
            reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
        let rows: Vec<Row> = entries
            .iter()
            .filter_map(|entry| serde_json::from_str(&entry.get::<String>("row")?).ok())
            .collect();
        if let Some(entry) = entries.last() {
            last.clone_from(&entry.id);
        }
        merge(sims, rows);
        // Entries that were cut off the stream before they were read are found here.
        if clock::monotonic() >= until_reading {
            read_all(&mut connection, config, sims).await?;
            until_reading = clock::monotonic() + READ_EVERY;
        }
    }
}

async fn connect(config: &RedisConfig) -> Result<MultiplexedConnection, RedisError> {
    let mut failed = None;
    for server in &config.servers {
        match connect_to(config, server).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = Some(error),
        }
    }
    let unknown = || config.sentinel_master.clone().unwrap_or_default();
    Err(failed.unwrap_or_else(|| RedisError::NoMaster { name: unknown() }))
}

async fn connect_to(
    config: &RedisConfig,
    server: &str,
) -> Result<MultiplexedConnection, RedisError> {
    let client = Client::open(server)?;
    let Some(name) = &config.sentinel_master else {
        return authenticate(config, open(&client).await?).await;
    };
    let mut sentinel = open(&client).await?;
    let mut command = cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(name);
    let found: Option<(String, u16)> = command.query_async(&mut sentinel).await?;
    let (host, port) = found.ok_or_else(|| RedisError::NoMaster { name: name.clone() })?;
    let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
    authenticate(config, open(&Client::open(info)?).await?).await
}

async fn open(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    // Blocking reads outlast every limit that suits other commands; those have their own beside.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIME))
        .set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn authenticate(
    config: &RedisConfig,
    mut connection: MultiplexedConnection,
) -> Result<MultiplexedConnection, RedisError> {
    if let Some(Password(password)) = &config.password {
        let () = cmd("AUTH").arg(password).query_async(&mut connection).await?;
    }
    Ok(connection)
}

/// Where the stream stands.
async fn last_id(
    connection: &mut MultiplexedConnection,
    config: &RedisConfig,
) -> Result<String, RedisError> {
    let mut command = cmd("XREVRANGE");
    command.arg(stream(config)).arg("+").arg("-").arg("COUNT").arg(1);
    let entries: Vec<(String, Vec<String>)> = command.query_async(connection).await?;
    Ok(entries.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id))
}

/// Merges every row: NAS and SIMs before the bindings that speak of them.
async fn read_all(
    connection: &mut MultiplexedConnection,
    config: &RedisConfig,
    sims: &Sims,
) -> Result<(), RedisError> {
    for kind in ["n", "s", "a", "g"] {
        let mut cursor = "0".to_owned();
        loop {
            let mut command = cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(format!("{}:{kind}|*", config.prefix));
            let (next, keys): (String, Vec<String>) =
                command.arg("COUNT").arg(1000).query_async(connection).await?;
            let mut pipeline = Pipeline::new();
            for key in &keys {
                pipeline.cmd("HVALS").arg(key);
            }
            if !keys.is_empty() {
                let found: Vec<Vec<String>> = pipeline.query_async(connection).await?;
                let rows: Vec<Row> = found
                    .iter()
                    .flatten()
                    .filter_map(|text| serde_json::from_str(text).ok())
                    .collect();
                merge(sims, rows);
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}

fn merge(sims: &Sims, mut rows: Vec<Row>) {
    let (now, all) = (clock::now(), rows.len());
    rows.retain(|row| !row.is_ahead(seconds(now)));
    let ahead = all - rows.len();
    let refused = sims.merge(&rows, now);
    if refused + ahead > 0 {
        tracing::error!(refused, ahead, "rows of the shared state were left out");
    }
}

fn stream(config: &RedisConfig) -> String {
    format!("{}:changes", config.prefix)
}

/// Writes a row unless what is there knows better, and tells the others.
///
/// A hash holds one field a session (`NAS/SESSION`) with the binding's row of that claim alone, or
/// the one field `row`. Claims grow as in the table: first times fall, last times rise.
const GUARD: &str = r#"
local function later(a, b) if a > b then return a else return b end end
local key, stream, id = KEYS[1], KEYS[2], ARGV[1]
local now, room, text = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local kind = string.sub(id, 1, 1)
if text == "" then
  redis.call("DEL", key)
  return 1
end
if kind == "a" then
  local row = cjson.decode(text)
  for _, claim in ipairs(row.Address.claims) do
    local field = claim.nas .. "/" .. claim.session
    local known = redis.call("HGET", key, field)
    if known then
      local old = cjson.decode(known).Address.claims[1]
      if old.asserted > claim.asserted then
        claim.sim, claim.apn, claim.lifetime = old.sim, old.apn, old.lifetime
      end
      if old.first > 0 and (claim.first == 0 or old.first < claim.first) then
        claim.first = old.first
      end
      for _, time in ipairs({ "started", "asserted", "stopped", "seen" }) do
        claim[time] = later(claim[time], old[time])
      end
    end
    local one = { Address = { domain = row.Address.domain, network = row.Address.network, claims = { claim } } }
    redis.call("HSET", key, field, cjson.encode(one))
  end
  local lifetime, lasts = 120, false
  for _, known in ipairs(redis.call("HVALS", key)) do
    local claim = cjson.decode(known).Address.claims[1]
    local ended = claim.stopped > 0 and claim.started <= claim.stopped
    if ended and claim.seen + 600 < now then
      redis.call("HDEL", key, claim.nas .. "/" .. claim.session)
    elseif not ended then
      lasts = lasts or claim.lifetime == 0
      lifetime = later(lifetime, claim.lifetime)
    end
  end
  if lasts then redis.call("PERSIST", key) else redis.call("EXPIRE", key, lifetime) end
else
  local known = redis.call("HGET", key, "row")
  if known and kind == "s" and cjson.decode(known).Sim.changed > cjson.decode(text).Sim.changed then
    return 0
  end
  if known and kind == "n" and cjson.decode(known).Nas.reset > cjson.decode(text).Nas.reset then
    return 0
  end
  redis.call("HSET", key, "row", text)
end
redis.call("XADD", stream, "MAXLEN", "~", room, "*", "row", text)
return 1
"#;

/// Rows in one round trip.
const PIPELINE: usize = 1000;
/// Changes the stream holds for nodes that are behind; who is further behind reads all again.
const STREAM_MAX: usize = 200_000;
/// How often everything is read again.
const READ_EVERY: Duration = Duration::from_secs(600);
/// How long one read waits for changes.
const BLOCK: Duration = Duration::from_secs(1);
/// How long a command may take.
const COMMAND_TIME: Duration = Duration::from_secs(4);
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// How long the start waits for all rows.
const START_TIME: Duration = Duration::from_secs(60);
/// What lies between two attempts to follow.
const PAUSE: Duration = Duration::from_millis(500);
