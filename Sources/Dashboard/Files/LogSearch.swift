import Foundation
import Hummingbird
import JobStore

/// Looks for a text in the log of an attempt: a piece of the log a request, from its end backwards, so that nobody's search of a huge log
/// holds up what others ask for.
struct LogSearch: Sendable {
    /// A line that holds what somebody looks for.
    struct Match: Sendable, Equatable {
        /// 1 for the first line of the log; nil where only a later part of it was looked at.
        var line: Int?
        var text: String
    }

    struct Result: Sendable {
        /// The last ones.
        var matches: [Match] = []
        /// How many lines hold it, those that are left out too.
        var count = 0
        /// The bytes that were searched, whole lines.
        var start: Int64
        var end: Int64
        var size: Int64
    }

    /// At most this many bytes a request.
    static let window: Int64 = 4 << 20
    /// Read at once; others get their turn between two of them.
    private static let piece = 128 * 1024
    private static let longestLine = 2000
    private static let longestText = 200

    /// What to look for, whatever the case.
    var text: String
    /// Only what lies before this byte; nil for the end of the log.
    var before: Int64?

    init(_ text: String, before: Int64? = nil) {
        self.text = text
        self.before = before
    }

    /// - Returns: nil when nothing is looked for.
    /// - Throws: `Problem` for a place that is no number.
    init?(_ request: Request) throws {
        guard let text = request.query("find"), !text.isEmpty else { return nil }
        let before = try request.query("before").map { text in
            guard let number = Int64(text), number >= 0 else { throw Problem.badRequest("before is a whole number of bytes.") }
            return number
        }
        self.init(String(text.prefix(Self.longestText)), before: before)
    }

    func run(in attempt: LedgerAttempt, most: Int, logs: URL, window: Int64 = Self.window) async throws -> Result {
        guard let relative = JobLog.path(of: attempt), let path = ConfinedFile.resolve(relative, in: logs) else {
            return Result(start: 0, end: 0, size: 0)
        }
        let file = try FileHandle(forReadingFrom: URL(filePath: path))
        defer { try? file.close() }
        let size = Int64(clamping: try file.seekToEnd())
        let end = min(size, before ?? size)
        var result = Result(start: max(0, end - window), end: end, size: size)
        try file.seek(toOffset: UInt64(result.start))
        let wanted = Needle(text)
        var number = result.start == 0 ? 0 : nil
        // The first line of a window belongs to the window before, unless it is longer than a whole one.
        var isSkipping = result.start > 0
        var rest: [UInt8] = []
        var position = result.start
        while position < end {
            try Task.checkCancellation()
            let bytes = [UInt8](try file.read(upToCount: Int(min(Int64(Self.piece), end - position))) ?? Data())
            guard !bytes.isEmpty else { break }
            position += Int64(bytes.count)
            rest += bytes
            var begin = rest.startIndex
            while let newline = rest[begin...].firstIndex(of: 0x0a) {
                if isSkipping {
                    isSkipping = false
                    result.start += Int64(newline + 1)
                } else {
                    look(at: rest[begin..<newline], wanted, &number, &result, most)
                }
                begin = newline + 1
            }
            rest.removeFirst(begin)
            // Of a line without an end only the beginning is looked at.
            if rest.count > Self.longestLine, !isSkipping { rest.removeSubrange(Self.longestLine...) }
            await Task.yield()
        }
        if isSkipping {
            // One line longer than the window: it is left out, so that the next request goes on before it.
            result.start = max(0, end - window)
        } else if !rest.isEmpty {
            look(at: rest[...], wanted, &number, &result, most)
        }
        if result.matches.count > most { result.matches.removeFirst(result.matches.count - most) }
        return result
    }

    private func look(at bytes: ArraySlice<UInt8>, _ wanted: Needle, _ number: inout Int?, _ result: inout Result, _ most: Int) {
        number? += 1
        let line = bytes.prefix(Self.longestLine)
        guard let text = wanted.text(ifIn: line) else { return }
        result.count += 1
        result.matches.append(Match(line: number, text: text))
        if result.matches.count > most * 2 { result.matches.removeFirst(result.matches.count - most) }
    }
}

/// What is looked for, so that lines without it cost next to nothing.
private struct Needle {
    private let lowercased: String
    /// The same in bytes, where lower and upper case differ by one bit; empty for other texts.
    private let bytes: [UInt8]

    init(_ text: String) {
        lowercased = text.lowercased()
        bytes = text.utf8.allSatisfy { $0 < 0x80 } ? Array(lowercased.utf8) : []
    }

    /// The line without its colours, if it holds what is wanted.
    func text(ifIn line: ArraySlice<UInt8>) -> String? {
        // Colours may lie between two of its letters.
        let isPlain = !bytes.isEmpty && !line.contains(0x1b)
        if isPlain { return holds(line) ? String(decoding: line, as: UTF8.self) : nil }
        let text = JobLog.plain(String(decoding: line, as: UTF8.self))
        return text.lowercased().contains(lowercased) ? text : nil
    }

    private func holds(_ line: ArraySlice<UInt8>) -> Bool {
        line.withUnsafeBufferPointer { line in
            bytes.withUnsafeBufferPointer { bytes in
                guard line.count >= bytes.count else { return false }
                for start in 0...(line.count - bytes.count) {
                    var place = 0
                    while place < bytes.count, Self.lower(line[start + place]) == bytes[place] { place += 1 }
                    if place == bytes.count { return true }
                }
                return false
            }
        }
    }

    private static func lower(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }
}
