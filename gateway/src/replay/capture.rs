//! Capture files: pcap and pcapng in, one frame after the other out.
//!
//! At most one block is in memory, and no block may be longer than [`MAX_BLOCK`].

use std::io::{self, Chain, Cursor, Read};

use pcap_parser::{
    Block, LegacyPcapReader, Linktype, PcapBlockOwned, PcapError, PcapNGReader,
    traits::PcapReaderIterator,
};

/// The frames of one capture file.
pub(crate) struct Frames<'r> {
    blocks: Box<dyn PcapReaderIterator + 'r>,
    /// The link type of each interface of the section; a pcap file has one.
    links: Vec<Linktype>,
    /// Octets of the block that was handed out last.
    handed: usize,
    size: usize,
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What the first octet begins.
    pub(crate) link: Linktype,
    /// The octets, as many as were captured.
    pub(crate) octets: &'a [u8],
}

/// Why a capture cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// Neither pcap nor pcapng.
    #[error("not a pcap or pcapng file")]
    Format,
    /// The file ends inside a block.
    #[error("cut inside the packet at offset {offset}")]
    Cut {
        /// Where the block begins.
        offset: usize,
    },
    /// A block breaks the rules of the format.
    #[error("the block at offset {offset} is malformed")]
    Malformed {
        /// Where the block begins.
        offset: usize,
    },
    /// A block is longer than anything that was captured from a network.
    #[error("the block at offset {offset} is longer than {MAX_BLOCK} octets")]
    TooLong {
        /// Where the block begins.
        offset: usize,
    },
    /// More interfaces than are kept.
    #[error("a section has more than {MAX_INTERFACES} interfaces, at offset {offset}")]
    Interfaces {
        /// Where the block begins.
        offset: usize,
    },
    /// A packet names an interface that was not described.
    #[error("the packet at offset {offset} is of an unknown interface")]
    Interface {
        /// Where the block begins.
        offset: usize,
    },
    /// The file cannot be read.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where the block begins.
        offset: usize,
        /// Why.
        source: io::Error,
    },
}

type Input<R> = Chain<Cursor<Vec<u8>>, R>;

impl<'r> Frames<'r> {
    /// Reads the first block; its kind is told by its first octets.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is cut inside its first block, or is no capture.
    pub(crate) fn new(mut input: impl Read + 'r) -> Result<Self, CaptureError> {
        // The readers want the first block in one read, which a pipe may not give.
        let mut head = Vec::new();
        let most = u64::try_from(MIN_BUFFER / 2).unwrap_or(u64::MAX);
        input
            .by_ref()
            .take(most)
            .read_to_end(&mut head)
            .map_err(|source| CaptureError::Read { offset: 0, source })?;
        let is_ng = head.starts_with(&PCAPNG_MAGIC);
        let known = is_ng || PCAP_MAGICS.iter().any(|magic| head.starts_with(magic));
        if !known {
            return Err(CaptureError::Format);
        }
        let input: Input<_> = Cursor::new(head).chain(input);
        let blocks = if is_ng {
            PcapNGReader::new(MIN_BUFFER, input)
                .map(|reader| Box::new(reader) as Box<dyn PcapReaderIterator + 'r>)
        } else {
            LegacyPcapReader::new(MIN_BUFFER, input)
                .map(|reader| Box::new(reader) as Box<dyn PcapReaderIterator + 'r>)
        };
        let blocks = blocks.map_err(|error| fault(&error, 0))?;
        Ok(Self { blocks, links: Vec::new(), handed: 0, size: MIN_BUFFER })
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// Where and why the file cannot be read on. Whatever came before was whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        self.blocks.consume(std::mem::take(&mut self.handed));
        loop {
            match self.step()? {
                Step::End => return Ok(None),
                Step::Other => {}
                Step::Packet => break,
            }
        }
        // The block is read a second time, because the first reading may not outlive the loop.
        let offset = self.blocks.consumed();
        match self.blocks.next() {
            Ok((_, PcapBlockOwned::Legacy(packet))) => {
                let link = self.links.first().copied();
                let link = link.ok_or(CaptureError::Interface { offset })?;
                Ok(Some(Frame { link, octets: packet.data }))
            }
            Ok((_, PcapBlockOwned::NG(Block::EnhancedPacket(packet)))) => {
                let index = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
                let link = self.links.get(index).copied();
                let link = link.ok_or(CaptureError::Interface { offset })?;
                let length = usize::try_from(packet.caplen).unwrap_or(usize::MAX);
                Ok(Some(Frame { link, octets: packet.data.get(..length).unwrap_or(packet.data) }))
            }
            Ok((_, PcapBlockOwned::NG(Block::SimplePacket(packet)))) => {
                let link = self.links.first().copied();
                let link = link.ok_or(CaptureError::Interface { offset })?;
                let length = usize::try_from(packet.origlen).unwrap_or(usize::MAX);
                Ok(Some(Frame { link, octets: packet.data.get(..length).unwrap_or(packet.data) }))
            }
            Ok(_) => Err(CaptureError::Malformed { offset }),
            Err(error) => Err(fault(&error, offset)),
        }
    }

    /// Octets of the file that were read.
    pub(crate) fn position(&self) -> usize {
        self.blocks.consumed()
    }

    /// Looks at the next block, and steps over it unless it is a packet.
    fn step(&mut self) -> Result<Step, CaptureError> {
        let offset = self.blocks.consumed();
        let (length, is_packet) = match self.blocks.next() {
            Ok((length, block)) => match block {
                PcapBlockOwned::LegacyHeader(header) => {
                    self.links = vec![header.network];
                    (length, false)
                }
                PcapBlockOwned::Legacy(_)
                | PcapBlockOwned::NG(Block::EnhancedPacket(_) | Block::SimplePacket(_)) => {
                    (length, true)
                }
                PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                    self.links.clear();
                    (length, false)
                }
                PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                    if self.links.len() >= MAX_INTERFACES {
                        return Err(CaptureError::Interfaces { offset });
                    }
                    self.links.push(interface.linktype);
                    (length, false)
                }
                PcapBlockOwned::NG(_) => (length, false),
            },
            Err(PcapError::Eof) => return Ok(Step::End),
            Err(PcapError::Incomplete(_)) => return self.refill(offset),
            Err(PcapError::BufferTooSmall) => {
                if self.size >= MAX_BLOCK {
                    return Err(CaptureError::TooLong { offset });
                }
                self.size = self.size.saturating_mul(2);
                if !self.blocks.grow(self.size) {
                    return Err(CaptureError::TooLong { offset });
                }
                return self.refill(offset);
            }
            Err(error) => return Err(fault(&error, offset)),
        };
        if is_packet {
            self.handed = length;
            return Ok(Step::Packet);
        }
        self.blocks.consume(length);
        Ok(Step::Other)
    }

    fn refill(&mut self, offset: usize) -> Result<Step, CaptureError> {
        match self.blocks.refill() {
            Ok(()) => Ok(Step::Other),
            Err(error) => Err(fault(&error, offset)),
        }
    }
}

enum Step {
    End,
    Other,
    Packet,
}

fn fault<I>(error: &PcapError<I>, offset: usize) -> CaptureError {
    match error {
        PcapError::Eof | PcapError::UnexpectedEof | PcapError::Incomplete(_) => {
            CaptureError::Cut { offset }
        }
        PcapError::BufferTooSmall => CaptureError::TooLong { offset },
        PcapError::ReadError => {
            CaptureError::Read { offset, source: io::Error::other("the read failed") }
        }
        PcapError::HeaderNotRecognized => CaptureError::Format,
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => {
            CaptureError::Malformed { offset }
        }
    }
}

/// Octets read ahead.
const MIN_BUFFER: usize = 1 << 16;
/// Octets of the longest block: four times the longest that tcpdump writes.
const MAX_BLOCK: usize = 1 << 24;
/// Interfaces of one section.
const MAX_INTERFACES: usize = 4_096;
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Microseconds and nanoseconds, both byte orders.
const PCAP_MAGICS: [[u8; 4]; 4] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
];
