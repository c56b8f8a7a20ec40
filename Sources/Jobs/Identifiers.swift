package import Foundation

/// Identifies a run. 26 characters of Crockford's base 32: 48 bits of milliseconds since 1970, then 80 random bits,
/// so that ids sort by creation and never collide between routers.
package struct RunID: Sendable, Hashable, RawRepresentable, Comparable, CustomStringConvertible {
    package let rawValue: String

    /// - Returns: nil unless `rawValue` is 26 characters of Crockford's alphabet.
    package init?(rawValue: String) {
        guard rawValue.utf8.count == 26, rawValue.utf8.allSatisfy({ Self.alphabet.contains($0) }) else { return nil }
        self.rawValue = rawValue
    }

    package init(milliseconds: UInt64, random: (UInt64, UInt64)) {
        var characters: [UInt8] = []
        characters.reserveCapacity(26)
        for shift in stride(from: 45, through: 0, by: -5) {
            characters.append(Self.alphabet[Int((milliseconds >> UInt64(shift)) & 31)])
        }
        for word in [random.0, random.1] {
            for shift in stride(from: 35, through: 0, by: -5) {
                characters.append(Self.alphabet[Int((word >> UInt64(shift)) & 31)])
            }
        }
        self.rawValue = String(decoding: characters, as: UTF8.self)
    }

    package static func make(at date: Date) -> RunID {
        RunID(
            milliseconds: UInt64(max(0, date.timeIntervalSince1970 * 1000)),
            random: (UInt64.random(in: 0 ... .max), UInt64.random(in: 0 ... .max))
        )
    }

    package static func < (left: RunID, right: RunID) -> Bool { left.rawValue < right.rawValue }
    package var description: String { rawValue }

    private static let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)
}

/// Identifies a job: its run and its position in the run's plan, `<run>.<index>`.
package struct JobID: Sendable, Hashable, RawRepresentable, CustomStringConvertible {
    package let run: RunID
    package let index: Int

    package init(run: RunID, index: Int) {
        self.run = run
        self.index = index
    }

    package init?(rawValue: String) {
        let parts = rawValue.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let run = RunID(rawValue: String(parts[0])), let index = Int(parts[1]), index >= 0,
            String(index) == parts[1]
        else { return nil }
        self.init(run: run, index: index)
    }

    package var rawValue: String { "\(run.rawValue).\(index)" }
    package var description: String { rawValue }
}

extension RunID: Codable {}
extension JobID: Codable {}

/// What an event is about; the names are Orthanc's.
package enum ResourceLevel: String, Sendable, Codable, CaseIterable {
    case series
    case study
    case patient
}
