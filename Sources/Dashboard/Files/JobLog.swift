import Foundation
import JobStore
import Jobs

/// A piece of what an attempt printed.
struct JobLog: Sendable {
    /// At most this many bytes a piece.
    static let limit = 256 * 1024

    /// Bytes from the file's beginning.
    var offset: Int64
    /// Where to go on.
    var next: Int64
    /// Nothing more will come.
    var isAtEnd: Bool
    var text: String
    /// The same text, stream by stream.
    var parts: [LogIndex.Part] = []

    /// The log's file, relative to LOGS. Workers name it so while the attempt runs.
    static func path(of attempt: LedgerAttempt) -> String? {
        if let log = attempt.exit?.log { return log }
        guard let job = JobID(rawValue: attempt.jobID) else { return nil }
        return "runs/\(job.run)/\(job.index)-\(attempt.attempt)-\(attempt.token).log"
    }

    /// - Parameter offset: bytes from the beginning, or, when negative, from the end.
    static func read(_ attempt: LedgerAttempt, offset: Int64, in logs: URL) throws -> JobLog {
        let hasEnded = attempt.endedAt != nil
        guard let relative = path(of: attempt), let path = ConfinedFile.resolve(relative, in: logs) else {
            return JobLog(offset: 0, next: 0, isAtEnd: hasEnded, text: "")
        }
        let file = try FileHandle(forReadingFrom: URL(filePath: path))
        defer { try? file.close() }
        let size = Int64(clamping: try file.seekToEnd())
        var start = offset < 0 ? max(0, size + offset) : min(offset, size)
        try file.seek(toOffset: UInt64(start))
        var bytes = [UInt8](try file.read(upToCount: limit) ?? Data())
        if offset < 0, start > 0 {
            let skipped = bytes.firstIndex(of: 0x0a).map { $0 + 1 } ?? 0
            start += Int64(skipped)
            bytes.removeFirst(skipped)
        }
        let reachesEnd = start + Int64(bytes.count) >= size
        // A character that is only half there comes with the next piece.
        if !(reachesEnd && hasEnded) { bytes.removeLast(incompleteTail(bytes)) }
        let next = start + Int64(bytes.count)
        return JobLog(
            offset: start, next: next, isAtEnd: hasEnded && next >= size, text: String(decoding: bytes, as: UTF8.self),
            parts: LogIndex.read(relative, in: logs).parts(of: bytes, at: start))
    }

    /// How many bytes at the end begin a UTF-8 character without completing it.
    static func incompleteTail(_ bytes: [UInt8]) -> Int {
        for back in 1...3 where back <= bytes.count {
            let byte = bytes[bytes.count - back]
            if byte & 0b1100_0000 == 0b1000_0000 { continue }
            let length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
            return length > back ? back : 0
        }
        return 0
    }

    /// Without the escape sequences that colour a terminal.
    static func plain(_ text: String) -> String {
        text.replacing(/\u{1B}\[[0-9;?]*[ -\/]*[@-~]/, with: "")
    }
}
