import Foundation
import Testing

@testable import Dashboard

@Suite struct LogIndexTests {
    private func parts(_ index: String, _ text: String, at offset: Int64 = 0) -> [String] {
        LogIndex(index).parts(of: Array(text.utf8), at: offset).map { "\($0.stream.rawValue):\($0.text)" }
    }

    @Test("Each piece belongs to its stream; neighbours of one stream are one part")
    func streams() {
        let index = "0 1000 1\n2 1100 1\n4 1200 2\n6 1300 0\n"
        #expect(parts(index, "aabbccdd") == ["stdout:aabb", "stderr:cc", "note:dd"])
        let found = LogIndex(index).parts(of: Array("aabbccdd".utf8), at: 0)
        #expect(found.map(\.at) == [1, 1.2, 1.3].map { Date(timeIntervalSince1970: $0) })
    }

    @Test("A part of a log begins within a piece and ends before the last one")
    func window() {
        let index = "0 1000 1\n4 1200 2\n8 1300 1\n"
        #expect(parts(index, "bccc", at: 3) == ["stdout:b", "stderr:ccc"])
        #expect(parts(index, "cc", at: 5) == ["stderr:cc"])
        #expect(parts(index, "d", at: 100) == ["stdout:d"])
    }

    @Test("Without an index all is output; a half line, garbage and negative numbers are left out")
    func garbage() {
        #expect(parts("", "aa") == ["stdout:aa"])
        #expect(parts("0 1000 2\n1 12", "aa") == ["stderr:aa"])
        #expect(parts("x y z\n-1 0 2\n0 1 2 3\n99999999999999999999 1 2\n", "aa") == ["stdout:aa"])
        #expect(parts("5 1000 2\n", "aaaaabb") == ["stdout:aaaaa", "stderr:bb"])
        #expect(parts("0 1 1\n", "") == [])
        #expect(parts("0 1 1\n0 1 2\n0 1 0\n", "ab") == ["note:ab"])
    }

    @Test("A character that two pieces share stays whole", arguments: 0...6)
    func characters(offset: Int) {
        let index = "0 1000 1\n\(offset) 1200 2\n"
        #expect(!parts(index, "aü€z").joined().contains("\u{fffd}"))
        #expect(parts(index, "aü€z").map { $0.split(separator: ":")[1] }.joined() == "aü€z")
    }
}
