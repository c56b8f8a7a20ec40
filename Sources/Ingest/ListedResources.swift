import Foundation
import Orthanc

/// What the pages of one sweep have listed of one level. A value without input or output.
struct ListedResources: Sendable {
    /// Eight bytes of a SHA-1 name a resource well enough, and a million of them stay small. Were two ever alike, one that is gone would
    /// be kept.
    private var prefixes: Set<UInt64> = []

    /// Before the first page was read.
    let startedAt: Date

    init(startedAt: Date) {
        self.startedAt = startedAt
    }

    /// Resources, each once: a list that shifts while it is read shows some twice.
    var count: Int { prefixes.count }

    mutating func insert(_ id: OrthancID) {
        prefixes.insert(Self.prefix(id.rawValue))
    }

    func contains(_ resource: String) -> Bool {
        prefixes.contains(Self.prefix(resource))
    }

    /// The first two of the groups of eight hexadecimal digits.
    private static func prefix(_ text: String) -> UInt64 {
        var value: UInt64 = 0
        for byte in text.utf8.prefix(17) where byte != 0x2d {
            value = value << 4 | UInt64(byte >= 0x61 ? byte &- 0x57 : byte &- 0x30)
        }
        return value
    }
}
