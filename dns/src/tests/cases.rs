//! The odd cases of a walled garden's resolver, by number: what each must do and who shows it.
//!
//! A test that shows case 7 is called `case_07_…`, one that shows two `case_01_and_02_…`; a test of
//! the suite finds one for every number. Those named below stand elsewhere than in this folder.
//!
//! | cases | about | where |
//! |---|---|---|
//! | 1–9, 12 | which rule a name falls under, for whom | `matching` |
//! | 10, 11 | reload under way | `answers` |
//! | 13–23 | the chain and the content of an upstream's answer | `screening` |
//! | 24–30 | addresses | `addresses`, and below |
//! | 31–39 | denials | `denials` |
//! | 40–51 | types and special names | `names` |
//! | 52–57 | messages | `messages`, and `wire` itself |
//! | 58, 59 | cookies and client subnets | `messages`, `cookies` |
//! | 14, 70, 71 | what we do not do: rules about aliases, prefetching, validation | `messages` |
//! | 60–62 | transports | `messages`, `abuse` |
//! | 63–72 | upstreams | `upstreams`, `lying`, `stale` |
//! | 73–77, 80 | askers that do not keep the rules | `rates`, `abuse`, `stale` |
//! | 78, 79 | names from the wire in metrics and logs | `messages` |
//!
//! # No learned addresses
//!
//! Cases 24 to 30 are those of a gateway that lets addresses through because a name led to them.
//! Ours remembers none: the name on the wire decides, and the proxy dials its own resolution of it.
//! Each case is therefore shown by what takes its place:
//!
//! | case | with learned addresses | here |
//! |---|---|---|
//! | 24 | an address is let through as long as its answer lives, and a flow keeps it | an answer that has run out is asked for again |
//! | 25 | after that, a listed name opens it again | a listed name is dialled without any question before |
//! | 26 | an address shared with another name does not open that name | an address opens nothing: the other name on it stays denied |
//! | 27 | names and addresses are bounded, and those in use stay | the cache is bounded, and what is used stays |
//! | 28 | the address is known before the answer leaves | answer and dial share one cache, filled before the answer leaves |
//! | 29 | a restart forgets no address | a restart has nothing to forget: the first dial resolves |
//! | 30 | an address made by DNS64 stands for both hosts | it is known as one of the name's, and the host itself is dialled |

mod addresses;
mod denials;
mod matching;
mod messages;
mod names;
