"""Asks a running resolver what RFC 8906 asks of servers, and what an answer of ours must be in every
odd case; over UDP and TCP, over IPv4 and IPv6.

Usage: dns_blackbox.py ADDRESS:PORT…

One line for each check that failed, a sum at the end; the exit code is 1 if any failed. The policy
that the resolver must have is beside the test that runs this (`blackbox.rs`).
"""

import socket
import struct
import sys

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from dns.rcode import BADVERS, FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED

LISTED = "listed.example."  # one address in each family
LONG = "long.example."  # so many addresses that no datagram holds them
V4ONLY = "v4only.example."  # an address in one family
DENIED = "www.bing.com."
PATIENCE = 8.0
UDP_MAX = 1232
OPTION_COOKIE = 10
OPTION_ERROR = 15
OPCODE_BITS = 0x78

UDP, TCP = "udp", "tcp"


class Failed(Exception):
    pass


def expect(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what}: {found!r}, not {wanted!r}")


class Resolver:
    """One address of the resolver, over one transport."""

    def __init__(self, address, transport):
        host, port = address.rsplit(":", 1)
        self.at = (host.strip("[]"), int(port))
        self.family = socket.AF_INET6 if "[" in host else socket.AF_INET
        self.transport = transport

    def __str__(self):
        return f"{self.transport} {self.at[0]}"

    def exchange(self, octets):
        """The answer's octets to those of a question."""
        if self.transport == UDP:
            with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                # Connected, so that an answer from elsewhere is none.
                sock.connect(self.at)
                sock.send(octets)
                return sock.recv(65535)
        with socket.create_connection(self.at, PATIENCE) as sock:
            sock.sendall(struct.pack("!H", len(octets)) + octets)
            return read_framed(sock)

    def ask(self, query, tampered=None):
        """Sends `query`, or the octets it was made into, and holds the answer to what is always
        true."""
        sent = tampered if tampered is not None else query.to_wire()
        octets = self.exchange(sent)
        # Which refuses trailing octets, but also opcodes it does not know.
        answer = dns.message.from_wire(octets[:2] + bytes([octets[2] & ~OPCODE_BITS]) + octets[3:])
        expect(octets[:2], sent[:2], "id")
        expect(bool(answer.flags & dns.flags.QR), True, "QR")
        expect(octets[2] & OPCODE_BITS, sent[2] & OPCODE_BITS, "opcode")
        expect(bool(answer.flags & dns.flags.AA), False, "AA")
        expect(bool(answer.flags & dns.flags.RA), True, "RA")
        expect(octets[3] & 0x60, 0, "Z and AD")
        expect(octets[2] & 1, sent[2] & 1, "RD is copied")
        expect(octets[3] & 0x10, sent[3] & 0x10, "CD is copied")
        if self.transport == UDP:
            payload = max(query.payload, 512) if query.edns >= 0 else 512
            if len(octets) > min(payload, UDP_MAX):
                raise Failed(f"{len(octets)} octets for an asker that takes {payload}")
        elif answer.flags & dns.flags.TC:
            raise Failed("TC over TCP")
        return answer

    def told(self, name, kind="A", **edns):
        """What is said to a plain question."""
        return self.ask(question(name, kind, **edns))


def read_framed(sock):
    head = read_all(sock, 2)
    return read_all(sock, struct.unpack("!H", head)[0])


def read_all(sock, count):
    octets = b""
    while len(octets) < count:
        more = sock.recv(count - len(octets))
        if not more:
            raise Failed("the connection was closed")
        octets += more
    return octets


def question(name, kind="A", rdclass="IN", **edns):
    return dns.message.make_query(name, kind, rdclass, **edns)


def with_opcode(query, opcode):
    octets = bytearray(query.to_wire())
    octets[2] = octets[2] & ~OPCODE_BITS | opcode << 3
    return bytes(octets)


def with_version(query, version):
    """The question with this EDNS version; its OPT record is its last record."""
    octets = bytearray(query.to_wire())
    options = sum(4 + len(item.data) for item in query.options)
    octets[len(octets) - options - 5] = version
    return bytes(octets)


def option(code, data=b""):
    return dns.edns.GenericOption(code, data)


def addresses(answer):
    found = [item.to_text() for rrset in answer.answer for item in rrset]
    return sorted(found)


def errors(answer):
    return [item for item in answer.options if item.otype == OPTION_ERROR]


def fine(answer, count):
    expect(answer.rcode(), NOERROR, "rcode")
    expect(len(addresses(answer)), count, "records")


def plain_text(resolver):
    """What a denial says in words; not to an asker over UDP that may be made up."""
    return "" if resolver.transport == UDP else "not reachable without a plan"


def echoes(answer, query):
    expect(len(answer.question), len(query.question), "questions")
    for got, sent in zip(answer.question, query.question):
        expect(got.name.to_text(), sent.name.to_text(), "the question's letters")
        expect((got.rdtype, got.rdclass), (sent.rdtype, sent.rdclass), "the question")


# --- RFC 8906 section 8, as genreport of ISC's DNS-Compliance-Testing has it -------------------


def check_dns(resolver):
    query = question("LiStEd.eXaMpLe.", use_edns=False)
    answer = resolver.ask(query)
    fine(answer, 1)
    echoes(answer, query)
    expect(answer.edns, -1, "an OPT record nobody asked for")


def check_edns(resolver):
    answer = resolver.told(LISTED, use_edns=0)
    fine(answer, 1)
    expect((answer.edns, answer.payload), (0, UDP_MAX), "OPT")
    expect(answer.ednsflags & 0xFFFF, 0, "flags")


def check_edns1(resolver):
    query = question(LISTED, use_edns=0)
    answer = resolver.ask(query, with_version(query, 1))
    expect(answer.rcode(), BADVERS, "rcode")
    expect((answer.edns, addresses(answer)), (0, []), "OPT")


def check_edns_at_512(resolver):
    answer = resolver.told(LONG, use_edns=0, payload=512)
    expect(answer.edns, 0, "OPT")
    if resolver.transport == UDP:
        expect((bool(answer.flags & dns.flags.TC), addresses(answer)), (True, []), "cut")
        small = resolver.told(LISTED, use_edns=0, payload=512)
        expect(bool(small.flags & dns.flags.TC), False, "what fits is not cut")
    else:
        fine(answer, 60)


def check_ednsopt(resolver):
    answer = resolver.told(LISTED, use_edns=0, options=[option(100, b"who knows")])
    fine(answer, 1)
    expect((answer.edns, list(answer.options)), (0, []), "OPT")


def check_edns1opt(resolver):
    query = question(LISTED, use_edns=0, options=[option(100)])
    answer = resolver.ask(query, with_version(query, 1))
    expect((answer.rcode(), answer.edns), (BADVERS, 0), "rcode and version")
    expect(list(answer.options), [], "options")


def check_do(resolver):
    answer = resolver.told(LISTED, want_dnssec=True)
    fine(answer, 1)
    expect(answer.ednsflags & 0xFFFF, dns.flags.DO, "DO is copied")


def check_docookie(resolver):
    cookie = bytes(range(8))
    options = [option(OPTION_COOKIE, cookie)]
    answer = resolver.told(LISTED, want_dnssec=True, options=options)
    fine(answer, 1)
    expect(answer.ednsflags & 0xFFFF, dns.flags.DO, "DO is copied")
    for item in answer.options:
        if item.otype == OPTION_COOKIE:
            data = item.data if hasattr(item, "data") else item.to_wire()
            expect(data[:8], cookie, "the client's cookie")
            expect(16 <= len(data) <= 40, True, "the length of a cookie")


def check_edns512tcp(resolver):
    if resolver.transport == TCP:
        fine(resolver.told(LONG, use_edns=0, payload=512), 60)


def check_optlist(resolver):
    subnet = dns.edns.ECSOption("192.0.2.0", 24)
    options = [option(3), subnet, option(9), option(OPTION_COOKIE, b"12345678"), option(12, b"\0\0")]
    answer = resolver.told(LISTED, use_edns=0, options=options)
    fine(answer, 1)
    told = {item.otype for item in answer.options}
    expect(told <= {OPTION_COOKIE}, True, f"options {told}")


def check_zflag(resolver):
    query = question(LISTED)
    query.flags |= 0x0040
    fine(resolver.ask(query), 1)


def check_ednsflags(resolver):
    answer = resolver.told(LISTED, use_edns=0, ednsflags=0x0080)
    fine(answer, 1)
    expect(answer.ednsflags & 0xFFFF, 0, "unknown flags are cleared")


def check_opcode(resolver):
    query = question(LISTED)
    answer = resolver.ask(query, with_opcode(query, 15))
    expect((answer.rcode(), addresses(answer)), (NOTIMP, []), "answer")


def check_opcodeflg(resolver):
    query = question(LISTED)
    query.flags |= dns.flags.TC | dns.flags.RA | dns.flags.CD | dns.flags.AD | dns.flags.AA
    answer = resolver.ask(query, with_opcode(query, 15))
    expect(answer.rcode(), NOTIMP, "rcode")
    expect(bool(answer.flags & dns.flags.TC), False, "TC")


def check_type666(resolver):
    query = question(LISTED, "TYPE666", use_edns=0)
    answer = resolver.ask(query)
    fine(answer, 0)
    echoes(answer, query)


def check_tcp(resolver):
    """Several questions in one piece, and one octet by octet, over one connection."""
    if resolver.transport != TCP:
        return
    queries = [question(name) for name in (LISTED, DENIED, LONG)]
    framed = [struct.pack("!H", len(wire)) + wire for wire in (q.to_wire() for q in queries)]
    with socket.create_connection(resolver.at, PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"".join(framed))
        answers = [dns.message.from_wire(read_framed(sock)) for _ in queries]
        rcodes = {answer.id: answer.rcode() for answer in answers}
        wanted = {q.id: r for q, r in zip(queries, (NOERROR, NXDOMAIN, NOERROR))}
        expect(rcodes, wanted, "answers")
        for octet in framed[0]:
            sock.send(bytes([octet]))
        expect(dns.message.from_wire(read_framed(sock)).id, queries[0].id, "in pieces")


def with_flag(flag):
    def check(resolver):
        query = question(LISTED)
        query.flags |= flag
        answer = resolver.ask(query)
        fine(answer, 1)
        expect(bool(answer.flags & dns.flags.TC), False, "TC")

    return check


check_ad = with_flag(dns.flags.AD)
check_cd = with_flag(dns.flags.CD)
check_ra = with_flag(dns.flags.RA)
check_aa = with_flag(dns.flags.AA)
check_tc = with_flag(dns.flags.TC)


def check_rd(resolver):
    query = question(LISTED)
    query.flags &= ~dns.flags.RD
    fine(resolver.ask(query), 1)


# --- malformed and unwanted messages ------------------------------------------------------------


def check_malformed(resolver):
    """Every cut of a question with an option, and what smuggles more than one thing."""
    query = question(LISTED, use_edns=0, options=[option(100, b"abc")])
    wire = query.to_wire()
    bare = question(LISTED, use_edns=False).to_wire()
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    counted = lambda octets, place, count: octets[:place] + bytes([count]) + octets[place + 1 :]
    pointer = bare[:12] + b"\xc0\x0c\0\x01\0\x01"
    for octets in [
        *[wire[:length] for length in range(12, len(wire))],
        wire + b"\0",
        counted(bare + bare[12:], 5, 2),
        counted(bare + opt + opt, 11, 2),
        counted(bare + opt, 7, 1),
        pointer,
        bare[:12] + b"\x41a\0\0\x01\0\x01",
        bare[:12] + b"\x3f" * 256 + b"\0\0\x01\0\x01",
    ]:
        answer = resolver.ask(question(".", use_edns=False), tampered=octets)
        expect((answer.rcode(), addresses(answer)), (FORMERR, []), octets.hex())


def check_silence(resolver):
    """What is no question gets no answer, and the next question does."""
    if resolver.transport != UDP:
        return
    query = question(LISTED)
    with socket.socket(resolver.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(resolver.at)
        response = dns.message.make_response(query).to_wire()
        for octets in (b"", b"\0" * 11, response, query.to_wire()):
            sock.send(octets)
        fine(dns.message.from_wire(sock.recv(65535)), 1)


def check_classes_and_opcodes(resolver):
    for rdclass in ("CH", "HS", "ANY", "NONE"):
        answer = resolver.ask(question("version.bind.", "TXT", rdclass))
        expect((answer.rcode(), addresses(answer)), (REFUSED, []), rdclass)
    for kind in ("AXFR", "IXFR", "MAILA", "MAILB"):
        answer = resolver.told(LISTED, kind)
        expect((answer.rcode(), addresses(answer)), (REFUSED, []), kind)
    for opcode in (1, 2, 3, 4, 5, 6, 14):
        query = question(LISTED)
        answer = resolver.ask(query, with_opcode(query, opcode))
        expect(answer.rcode(), NOTIMP, f"opcode {opcode}")
        expect(len(answer.question), 0, "what was not read is not repeated")


def check_types(resolver):
    """Every type there is leads to an answer without a record, and none to a failure."""
    for kind in [*range(2, 28), *range(29, 41), *range(42, 110), 256, 257, 258, 65280, 65535]:
        answer = resolver.told(LISTED, dns.rdatatype.to_text(kind), use_edns=0)
        fine(answer, 0)
        expect([item.code for item in errors(answer)], [15], f"extended error of type {kind}")
    answer = resolver.told(LISTED, "ANY")
    fine(answer, 1)
    expect(answer.answer[0].rdtype, dns.rdatatype.HINFO, "ANY (RFC 8482)")


# --- what is said -------------------------------------------------------------------------------


def check_denied(resolver):
    query = question("WWW.bing.com.", use_edns=0)
    answer = resolver.ask(query)
    echoes(answer, query)
    expect(answer.rcode(), NXDOMAIN, "rcode")
    soa = answer.authority[0]
    expect((soa.rdtype, soa.ttl, soa[0].minimum), (dns.rdatatype.SOA, 5, 5), "the denial's SOA")
    (error,) = errors(answer)
    expect(error.code, 15, "extended error")
    expect(error.text or "", plain_text(resolver), "its text")
    asked, told = len(query.to_wire()), len(answer.to_wire())
    plain = resolver.told(DENIED, use_edns=False)
    expect(plain.edns, -1, "OPT")
    expect(told <= 512, True, f"{told} octets for {asked}")


def check_structured_error_needs_encryption(resolver):
    answer = resolver.told(DENIED, use_edns=0, options=[option(OPTION_ERROR, b"\0\0")])
    (error,) = errors(answer)
    expect(error.text or "", plain_text(resolver), "no JSON on a plain transport")


def check_special(resolver):
    for name, kind, rcode, data in [
        ("ipv4only.arpa.", "A", NOERROR, ["192.0.0.170", "192.0.0.171"]),
        ("ipv4only.arpa.", "AAAA", NOERROR, ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]),
        ("ipv4only.arpa.", "TXT", NOERROR, []),
        (V4ONLY, "AAAA", NOERROR, ["64:ff9b::c633:6408"]),
        (V4ONLY, "A", NOERROR, ["198.51.100.8"]),
        ("localhost.", "A", NOERROR, ["127.0.0.1"]),
        ("a.localhost.", "AAAA", NOERROR, ["::1"]),
        ("a.invalid.", "A", NXDOMAIN, []),
        ("a.onion.", "A", NXDOMAIN, []),
        ("printer.local.", "A", NXDOMAIN, []),
        ("use-application-dns.net.", "A", NXDOMAIN, []),
        ("mask.icloud.com.", "AAAA", NXDOMAIN, []),
        ("mask-h2.icloud.com.", "HTTPS", NXDOMAIN, []),
        ("1.0.0.10.in-addr.arpa.", "PTR", NXDOMAIN, []),
        ("dns.msftncsi.com.", "A", NOERROR, ["131.107.255.255"]),
        ("dns.msftncsi.com.", "AAAA", NOERROR, ["fd3e:4f5a:5b81::1"]),
        ("www.msftconnecttest.com.", "A", NOERROR, ["192.0.2.80"]),
        ("ipv6.msftconnecttest.com.", "AAAA", NOERROR, ["2001:db8::80"]),
        ("resolver.arpa.", "RESINFO" if hasattr(dns.rdatatype, "RESINFO") else "TYPE261", NOERROR, None),
        ("_dns.resolver.arpa.", "A", NOERROR, []),
    ]:
        answer = resolver.told(name, kind, use_edns=0)
        expect(answer.rcode(), rcode, f"{name} {kind}")
        if data is not None:
            expect(addresses(answer), data, f"{name} {kind}")


def check_reverse_of_nat64(resolver):
    nibbles = "8.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0"
    answer = resolver.told(f"{nibbles}.ip6.arpa.", "PTR")
    expect(answer.rcode(), NXDOMAIN, "rcode")
    expect(addresses(answer), ["8.100.51.198.in-addr.arpa."], "the alias")


def check_designation(resolver):
    for name in ("_dns.resolver.arpa.", "_dns.dns.operator.example."):
        answer = resolver.told(name, "SVCB")
        expect(answer.rcode(), NOERROR, name)
        texts = addresses(answer)
        expect(len(texts), 2, f"{name}: {texts}")
        for text, alpn in zip(texts, ("dot", "h2")):
            expect(text.split()[1], "dns.operator.example.", "the name")
            expect(f'alpn="{alpn}"' in text, True, text)
            expect(resolver.at[0] in text, True, f"the hint in {text}")
    kind = "AAAA" if resolver.family == socket.AF_INET6 else "A"
    expect(addresses(resolver.told("dns.operator.example.", kind)), [resolver.at[0]], "where it is")


def main():
    checks = [(name[6:], check) for name, check in globals().items() if name.startswith("check_")]
    failed = done = 0
    for address in sys.argv[1:]:
        for transport in (UDP, TCP):
            resolver = Resolver(address, transport)
            for name, check in checks:
                done += 1
                try:
                    check(resolver)
                except Exception as error:  # whatever goes wrong is a failed check
                    failed += 1
                    print(f"{resolver} {name}: {type(error).__name__} {error}")
    print(f"{done - failed} checks passed, {failed} failed")
    sys.exit(1 if failed or not done else 0)


if __name__ == "__main__":
    main()
