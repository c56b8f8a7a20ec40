import TestSupport

extension SeededGenerator {
    /// 0..<limit, and a hair uneven.
    mutating func below(_ limit: Int) -> Int { Int(truncatingIfNeeded: (next() >> 33) % UInt64(limit)) }

    mutating func chance(_ one: Int, in total: Int) -> Bool { below(total) < one }
}
