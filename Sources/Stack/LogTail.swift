package import Foundation

/// The end of a log file, without reading all of it.
package enum LogTail {
    /// At most `count` last lines that are not empty; none when the file cannot be read.
    ///
    /// - Parameter start: bytes at the beginning of the file that do not count.
    package static func lastLines(of file: URL, count: Int, from start: UInt64 = 0) -> [String] {
        guard let handle = try? FileHandle(forReadingFrom: file) else { return [] }
        defer { try? handle.close() }
        let size = (try? handle.seekToEnd()) ?? 0
        let window: UInt64 = 64 * 1024
        let offset = max(start <= size ? start : 0, size > window ? size - window : 0)
        guard (try? handle.seek(toOffset: offset)) != nil, let data = try? handle.readToEnd() else { return [] }
        let lines = String(decoding: data, as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: true)
            .map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }
        return Array(lines.suffix(count))
    }
}
