import Dispatch
import Foundation
import GRDB
import Glibc
import JobStore
import Synchronization

/// Open pages, as browsers have them.
///
/// Each does what monitor.js does: it reads itself once, follows the stream from the fact on that it knows, and with what it hears it reads
/// itself again 700 ms later, not twice at a time, at most every 2.5 s and for a tenth of the time, and again if it then knows less than it has heard.
/// What runs makes it look every five seconds.
final class OpenPages: Sendable {
    private let pages: [OpenPage]

    /// - Parameter folder: the folder STATE.
    init(_ count: Int, of folder: URL, port: Int) throws {
        let database = try DatabaseQueue(path: Ledger.file(in: folder).path)
        let runs = try database.read { try String.fetchAll($0, sql: "SELECT id FROM run WHERE state = 'active' ORDER BY id LIMIT 50") }
        guard !runs.isEmpty else { throw BenchmarkError("No run is under way.") }
        // What people leave open: of ten pages, so many are each of these.
        let paths = (0..<count).map { number in
            switch number % 10 {
            case 0, 1: "/"
            case 2: "/runs"
            case 3: "/runs?state=failed"
            case 4, 5: "/runs/\(runs[number % runs.count])"
            case 6: "/workers"
            case 7: "/queues"
            case 8: "/dead"
            default: "/services"
            }
        }
        pages = try paths.map { try OpenPage($0, port: port) }
    }

    /// Whether each of them that follows all facts has read itself with this one.
    ///
    /// - Throws: what one of them met.
    func isShown(_ fact: Int64) throws -> Bool {
        try pages.map { try $0.outcome() }.allSatisfy { $0.run != nil || ($0.reads.last?.fact ?? 0) >= fact }
    }

    /// Closes them.
    ///
    /// - Throws: what one of them met: a refusal, or the end of its stream.
    func end() throws -> Seen {
        for page in pages { page.close() }
        return Seen(try pages.map { try $0.outcome() })
    }

    /// What the pages have seen.
    struct Seen {
        private let pages: [OpenPage.Outcome]
        var reads: [OpenPage.Read] { pages.flatMap(\.reads) }

        fileprivate init(_ pages: [OpenPage.Outcome]) { self.pages = pages }

        /// When the last stream told of a fact, of those that tell of all; nil when one did not.
        func heard(_ fact: Int64) -> ContinuousClock.Instant? { last { $0.run == nil ? .some($0.arrivals[fact]) : .none } }

        /// When the last page had read itself with the fact, of those that follow all.
        func shown(_ fact: Int64) -> ContinuousClock.Instant? {
            last { $0.run == nil ? .some($0.reads.first { $0.fact >= fact }?.at) : .none }
        }

        private func last(_ moment: (OpenPage.Outcome) -> ContinuousClock.Instant??) -> ContinuousClock.Instant? {
            let moments = pages.compactMap(moment)
            return moments.contains(nil) ? nil : moments.compactMap(\.self).max()
        }
    }
}

/// One page: a thread that hears its stream and one that reads it.
final class OpenPage: Sendable {
    struct Read: Sendable {
        /// When it was there.
        var at: ContinuousClock.Instant
        var seconds: Double
        /// The newest fact that it knows of.
        var fact: Int64
    }

    struct Outcome: Sendable {
        /// The only run of which its stream tells.
        var run: String?
        /// When the stream told of a fact.
        var arrivals: [Int64: ContinuousClock.Instant] = [:]
        /// In the order of time.
        var reads: [Read] = []
        fileprivate var failure: String?
        fileprivate var isClosed = false
        /// The newest fact that the stream has told of.
        fileprivate var last: Int64 = 0
        /// When the page is to be read.
        fileprivate var due: ContinuousClock.Instant?
        /// When it may be read again.
        fileprivate var nextLook = ContinuousClock.now
        fileprivate var hasRunning = false
    }

    private static let delay = Duration.milliseconds(700)
    private static let look = Duration.seconds(5)

    private let path: String
    private let state: Mutex<Outcome>
    private let wakeUp = DispatchSemaphore(value: 0)
    private let endStream: @Sendable () -> Void

    init(_ path: String, port: Int) throws {
        self.path = path
        let connection = try HTTPConnection(port: port)
        let first = try Self.read(path, connection)
        let stream = try HTTPConnection(port: port)
        try stream.follow("/api/v1/stream?after=\(first.fact)" + (first.run.map { "&run=\($0)" } ?? ""))
        state = Mutex(Outcome(run: first.run, reads: [first.read], last: first.fact, hasRunning: first.hasRunning))
        // Each belongs to the one thread that is started here; another one may shut the stream's socket down while that thread waits for it.
        nonisolated(unsafe) let (page, facts) = (connection, stream)
        endStream = { facts.end() }
        Thread { [self] in hear(facts) }.start()
        Thread { [self] in follow(page) }.start()
        soon()
    }

    func close() {
        state.withLock { $0.isClosed = true }
        endStream()
        wakeUp.signal()
    }

    func outcome() throws -> Outcome {
        let outcome = state.withLock(\.self)
        if let failure = outcome.failure { throw BenchmarkError("\(path): \(failure)") }
        return outcome
    }

    // MARK: The stream

    private func hear(_ stream: HTTPConnection) {
        do {
            try stream.lines { line in
                if line.hasPrefix("HTTP/"), !line.contains(" 200 ") { fail("the stream answers \(line.prefix(20))") }
                guard line.hasPrefix("id: "), let fact = Int64(line.dropFirst(4).trimmingCharacters(in: .whitespacesAndNewlines)) else {
                    return true
                }
                let now = ContinuousClock.now
                state.withLock { state in
                    state.arrivals[fact] = now
                    state.last = fact
                }
                soon()
                return true
            }
        } catch {
            fail("\(error)")
        }
    }

    private func fail(_ failure: String) {
        state.withLock { if !$0.isClosed, $0.failure == nil { $0.failure = failure } }
    }

    private func soon() {
        let isNew = state.withLock { state in
            guard state.due == nil else { return false }
            state.due = max(.now + Self.delay, state.nextLook)
            return true
        }
        if isNew { wakeUp.signal() }
    }

    // MARK: The page

    private func follow(_ connection: HTTPConnection) {
        var tick = ContinuousClock.now + Self.look
        do {
            while true {
                let now = ContinuousClock.now
                let (isClosed, due, hasRunning) = state.withLock { ($0.isClosed, $0.due, $0.hasRunning) }
                guard !isClosed else { return }
                if tick <= now {
                    tick = now + Self.look
                    if hasRunning { soon() }
                } else if let due, due <= now {
                    state.withLock { $0.due = nil }
                    try refresh(connection)
                } else {
                    _ = wakeUp.wait(timeout: .now() + (min(tick, due ?? tick) - now).inSeconds)
                }
            }
        } catch {
            fail("\(error)")
        }
    }

    private func refresh(_ connection: HTTPConnection) throws {
        let begun = ContinuousClock.now
        let fresh = try Self.read(path, connection)
        let isBehind = state.withLock { state in
            state.reads.append(fresh.read)
            state.hasRunning = fresh.hasRunning
            state.nextLook = begun + max(.seconds(2.5), min((fresh.read.at - begun) * 10, .seconds(10)))
            // What was to be read while this was under way waits its time again.
            if let due = state.due { state.due = max(due, fresh.read.at + Self.delay, state.nextLook) }
            return fresh.fact < state.last
        }
        if isBehind { soon() }
    }

    private struct Content {
        var read: Read
        var run: String?
        var hasRunning: Bool
        var fact: Int64 { read.fact }
    }

    private static func read(_ path: String, _ connection: HTTPConnection) throws -> Content {
        let answer = try connection.get(path)
        guard answer.status == 200 else { throw BenchmarkError("the page answers \(answer.status).") }
        guard let fact = value("data-fact", answer.body).flatMap({ Int64($0) }) else { throw BenchmarkError("the page names no fact.") }
        return Content(
            read: Read(at: .now, seconds: answer.seconds, fact: fact), run: value("data-run", answer.body),
            hasRunning: ["s-running", "s-active", "s-dispatched"].contains { position(of: $0, answer.body) != nil })
    }

    /// Of an attribute of the page's body.
    private static func value(_ attribute: String, _ page: [UInt8]) -> String? {
        guard let start = position(of: "\(attribute)=\"", page).map({ $0 + attribute.utf8.count + 2 }) else { return nil }
        return String(decoding: page[start...].prefix { $0 != UInt8(ascii: "\"") }, as: UTF8.self)
    }

    private static func position(of text: String, _ page: [UInt8]) -> Int? {
        let text = Array(text.utf8)
        return page.withUnsafeBytes { page in
            guard var start = page.baseAddress.map({ UnsafeRawPointer($0) }), page.count >= text.count else { return nil }
            let (base, last) = (start, start + (page.count - text.count))
            while start <= last, let found = memchr(start, Int32(text[0]), last - start + 1).map({ UnsafeRawPointer($0) }) {
                if memcmp(found, text, text.count) == 0 { return found - base }
                start = found + 1
            }
            return nil
        }
    }
}
