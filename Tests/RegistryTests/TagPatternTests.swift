import Foundation
import Registry
import TestSupport
import Testing

@Suite struct TagPatternTests {
    private func found(_ pattern: String, in text: String) throws -> Bool? {
        var effort = 10_000_000
        return try TagPattern(pattern).isFound(in: text, effort: &effort)
    }

    @Test(arguments: [
        ("t1", "ax t1 mprage", true), ("^t1", "ax t1", false), ("(?i)t1.*", "AX T1 MPRAGE", true), ("t1", "AX T1", false),
        ("^(CT|MR)$", "MR", true), ("^(CT|MR)$", "MRI", false), (#"\bT2\b"#, "ax T2*", true), (#"\bT2\b"#, "axT2", false),
        (#"^\d{3}Y$"#, "045Y", true), (#"^\d{3}Y$"#, "45Y", false), ("[^a-z]", "abc", false), ("[^a-z]", "abC", true),
        ("[]-]", "a-b", true), (#"a\.b"#, "axb", false), ("(a*)*b", "aaaaaaaac", false), ("(?:ab){2,3}c", "ababc", true),
        ("(?:ab){2,3}c", "abc", false), ("(?i)ÄRZTE", "ärzte", true), ("(?i)[A-C]+x", "abX", true), ("x*", "", true), ("a??b", "b", true),
        ("()", "x", true), ("a|", "x", true), (#"[\d.]+"#, "1.5", true), (#"\\"#, "a\\b", true),
    ])
    func finds(_ pattern: String, _ text: String, _ expected: Bool) throws {
        let answer = try found(pattern, in: text)
        #expect(answer == expected)
    }

    @Test(arguments: [
        "", "(", ")", "(a", "a)", "[", "[a", "[]", "*", "a**", "a{", "a{2", "a{5,2}", "a{,2}", #"\"#, #"\1"#, #"\p{L}"#, "(?=a)", "(?<n>a)",
        "(?s)a",
        "a(?i)b", "[z-a]", "^*", "a{1001}", "((a{100}){100}){100}", String(repeating: "(", count: 60), "a[[:alpha:]]",
        String(repeating: "a", count: 1001),
    ])
    func refuses(_ pattern: String) {
        #expect(throws: TagPattern.Mistake.self) { try TagPattern(pattern) }
    }

    @Test("What makes other engines hang is answered in steps that can be counted")
    func isLinear() throws {
        for pattern in ["(a+)+$", "(a|a)*b", "(a|aa)+$", "^(.*)*x$", "(?:(?:a?){50})a{50}b"] {
            var effort = 4_500_000
            let compiled = try TagPattern(pattern)
            _ = compiled.isFound(in: String(repeating: "a", count: 4000) + "!", effort: &effort)
            #expect(effort > 0, "\(pattern)")
        }
        var effort = 1000
        #expect(try TagPattern("(a|b)*c").isFound(in: String(repeating: "a", count: 4000), effort: &effort) == nil)
        effort = .max
        #expect(try TagPattern("a").isFound(in: String(repeating: "b", count: 5000), effort: &effort) == nil)
    }

    @Test("Nothing, repeated, is nothing: its repetitions are not written out")
    func repeatsNothing() throws {
        let empty = (0..<20).reduce("") { inner, _ in "(?:\(inner)){1000}" }
        #expect(try found("\(empty)a{2}", in: "aa") == true)
        #expect(try found("\(empty)a{2}", in: "a") == false)
    }

    /// A random expression, in which everything that is understood comes up.
    private static func expression(_ random: inout SeededGenerator, depth: Int = 0) -> String {
        let letters = ["a", "b", "c", "A", "1", "_", " "]
        switch Int.random(in: 0..<(depth > 3 ? 5 : 11), using: &random) {
        case 0, 1: return letters.randomElement(using: &random)!
        case 2: return "."
        case 3: return ["[ab]", "[^a]", "[a-c1]", #"[\d_]"#, #"[^\w]"#].randomElement(using: &random)!
        case 4: return [#"\d"#, #"\w"#, #"\s"#, #"\D"#, #"\W"#, #"\S"#].randomElement(using: &random)!
        case 5: return ["^", "$", #"\b"#, #"\B"#].randomElement(using: &random)!
        case 6, 7: return expression(&random, depth: depth + 1) + expression(&random, depth: depth + 1)
        case 8: return "(?:\(expression(&random, depth: depth + 1))|\(expression(&random, depth: depth + 1)))"
        default:
            let count = ["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"].randomElement(using: &random)!
            return "(?:x?\(expression(&random, depth: depth + 1)))\(count)"
        }
    }

    /// Foundation's engine has another author.
    @Test func agreesWithFoundation() throws {
        var random = SeededGenerator(seed: 7)
        var matches = 0
        for number in 0..<1500 {
            let isBlind = random.chance(20)
            let pattern = (isBlind ? "(?i)" : "") + Self.expression(&random)
            let text = String((0..<Int.random(in: 0...8, using: &random)).map { _ in "abcABC1_ x-".randomElement(using: &random)! })
            let theirs =
                try NSRegularExpression(pattern: pattern).firstMatch(
                    in: text, range: NSRange(text.startIndex..., in: text)) != nil
            let ours = try found(pattern, in: text)
            #expect(ours == theirs, "case \(number): /\(pattern)/ in '\(text)'")
            if theirs { matches += 1 }
        }
        #expect((200..<1400).contains(matches))
    }

    @Test("Whatever somebody writes is read or refused")
    func fuzz() {
        var random = SeededGenerator(seed: 11)
        let pieces = [
            "(", ")", "[", "]", "{", "}", "*", "+", "?", "|", "^", "$", ".", "\\", "a", "-", "1", ",", "?:", "?i", "é", "\u{0}", "]]",
        ]
        var read = 0
        for _ in 0..<5000 {
            let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
            var effort = 100_000
            if let pattern = try? TagPattern(text) {
                read += 1
                #expect(pattern.isFound(in: "a1(é", effort: &effort) != nil)
            }
        }
        #expect(read > 100)
    }
}
