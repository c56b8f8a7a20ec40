import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs
import NIOCore
import ServiceLifecycle

/// `/api/v1/stream`: facts as server-sent events. The event's id is the fact's number, so that a browser that was away
/// goes on where it was, without a gap.
struct FactStream: Sendable {
    static let capacity = 500
    /// Who is further behind is told to look at everything anew: that is less than to be told what became of it step by step.
    static let furthest: Int64 = 5000
    let feed: FactFeed
    let bulk: BulkRunner

    @Sendable func respond(_ request: Request, _ context: DashboardContext) async throws -> Response {
        guard feed.watchers < Self.capacity else { throw Problem.unavailable("Too many streams are open.") }
        let run = request.query("run")
        let resumed = (request.headers[.lastEventID] ?? request.query("after")).flatMap(Int64.init)
        let latest = try await feed.newest()
        // A number from the future belongs to another ledger, and of a number before the oldest fact what came after it may be gone: that
        // client has to look at everything anew.
        let isReset: Bool
        if let resumed {
            let oldest = try await feed.oldest()
            isReset = Self.needsReset(after: resumed, oldest: oldest, latest: latest)
        } else {
            isReset = false
        }
        let start = isReset ? latest : resumed ?? latest
        let body = ResponseBody { [feed, bulk] writer in
            var position = start
            try await writer.write(ByteBuffer(string: "retry: 2000\n\n" + (isReset ? Self.reset(latest) : "")))
            var lastWrite = ContinuousClock.now
            var lastCheck = ContinuousClock.now
            var seenBulk = 0
            for await _ in feed.watch().cancelOnGracefulShutdown() {
                // Who is signed out, disabled or revoked meanwhile hears no more.
                if lastCheck.duration(to: .now) > .seconds(2) {
                    guard await context.mayStill() else { break }
                    lastCheck = .now
                }
                while case let facts = try await Self.facts(feed, after: position), let first = facts.first, let last = facts.last {
                    // Whoever reads so slowly that facts went before they were read, or that more come than are read.
                    let isBehind = Self.needsReset(after: position, oldest: first.sequence, latest: max(last.sequence, feed.latest))
                    position = isBehind ? max(last.sequence, feed.latest) : last.sequence
                    let text = isBehind ? Self.reset(position) : facts.lazy.filter { run == nil || $0.runID == run }.map(\.text).joined()
                    guard !text.isEmpty else { continue }
                    try await writer.write(ByteBuffer(string: text))
                    lastWrite = .now
                }
                if case let (version, records) = bulk.current, version != seenBulk {
                    seenBulk = version
                    try await writer.write(ByteBuffer(string: Self.event(records)))
                    lastWrite = .now
                }
                // Also tells us when the browser is gone.
                if lastWrite.duration(to: .now) > .seconds(10) {
                    try await writer.write(ByteBuffer(string: ": still here\n\n"))
                    lastWrite = .now
                }
            }
            try await writer.finish(nil)
        }
        return Response(
            status: .ok,
            headers: [.contentType: "text/event-stream", .cacheControl: "no-store", HTTPField.Name("X-Accel-Buffering")!: "no"],
            body: body
        )
    }

    /// Whether a client cannot, or should not, be told all that came after fact `position`.
    static func needsReset(after position: Int64, oldest: Int64, latest: Int64) -> Bool {
        position > latest || position < oldest - 1 || latest - position > furthest
    }

    /// A ledger that cannot be read now ends nothing: the next look may succeed.
    private static func facts(_ feed: FactFeed, after position: Int64) async throws -> [FactNotice] {
        do {
            return try await feed.facts(after: position)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            return []
        }
    }

    /// Tells a page to load its parts again, and from which number on it then misses nothing.
    private static func reset(_ sequence: Int64) -> String { "id: \(sequence)\nevent: reset\ndata: {\"sequence\":\(sequence)}\n\n" }

    /// Without an id: the number of the last fact stays what a browser goes on from.
    private static func event(_ records: [BulkRecord]) -> String {
        "event: bulk\ndata: \(JSONValue.array(records.map { JSONValue($0) }).text)\n\n"
    }
}
