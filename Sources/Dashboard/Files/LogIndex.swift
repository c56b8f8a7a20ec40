import Foundation

/// Which stream each piece of a log came from, and when: the file beside the log, one line `offset milliseconds stream` for each piece.
struct LogIndex: Sendable, Equatable {
    enum Stream: String, Sendable {
        case output = "stdout"
        case error = "stderr"
        /// The worker's own words.
        case note

        fileprivate init(_ number: Int64) {
            switch number {
            case 2: self = .error
            case 0: self = .note
            default: self = .output
            }
        }
    }

    /// A part of a log that came from one stream.
    struct Part: Sendable, Equatable {
        var stream: Stream
        /// When it began to arrive; nil when the index says nothing about it.
        var at: Date?
        var text: String
    }

    private struct Piece: Sendable, Equatable {
        var offset: Int64
        var at: Date
        var stream: Stream
    }

    /// In the order of their offsets.
    private var pieces: [Piece]

    /// More than a job's host writes.
    private static let limit = 16 << 20

    /// - Parameter text: lines; what is no line of ours, or is only half there, is left out.
    init(_ text: String) {
        pieces = text.split(separator: "\n").compactMap { line in
            let numbers = line.split(separator: " ").compactMap { Int64($0) }
            guard numbers.count == 3, numbers[0] >= 0 else { return nil }
            return Piece(offset: numbers[0], at: Date(timeIntervalSince1970: Double(numbers[1]) / 1000), stream: Stream(numbers[2]))
        }
        pieces.sort { $0.offset < $1.offset }
    }

    static func read(_ log: String, in logs: URL) -> LogIndex {
        guard let path = ConfinedFile.resolve("\(log).index", in: logs), let file = FileHandle(forReadingAtPath: path) else {
            return LogIndex("")
        }
        defer { try? file.close() }
        return LogIndex(String(decoding: (try? file.read(upToCount: limit)) ?? Data(), as: UTF8.self))
    }

    /// - Parameter offset: where `bytes` begin in the log.
    func parts(of bytes: [UInt8], at offset: Int64) -> [Part] {
        guard !bytes.isEmpty else { return [] }
        let end = offset + Int64(bytes.count)
        // The last piece that begins at or before `offset`, and all others up to the end.
        let first = pieces.lastIndex { $0.offset <= offset }
        var marks: [(start: Int, piece: Piece?)] = first == nil ? [(0, nil)] : []
        for piece in pieces[(first ?? 0)...] where piece.offset < end {
            var start = Int(max(0, piece.offset - offset))
            // A character that two pieces share stays whole.
            while start > 0, start < bytes.count, bytes[start] & 0b1100_0000 == 0b1000_0000 { start += 1 }
            marks.append((start, piece))
        }
        var parts: [Part] = []
        for (place, mark) in marks.enumerated() {
            let next = place + 1 < marks.count ? marks[place + 1].start : bytes.count
            guard next > mark.start else { continue }
            let text = String(decoding: bytes[mark.start..<next], as: UTF8.self)
            let stream = mark.piece?.stream ?? .output
            if let last = parts.last, last.stream == stream {
                parts[parts.count - 1].text += text
            } else {
                parts.append(Part(stream: stream, at: mark.piece?.at, text: text))
            }
        }
        return parts
    }
}
