/// A regular expression that is matched in time proportional to its own length times that of the text, whatever it says: the router waits
/// for the answer, and an expression that tries one way after the other can take longer than anybody lives.
///
/// Understood are `.` `[a-z]` `[^a-z]` `\d \w \s \D \W \S \b \B` `^` `$` `( )` `(?: )` `|` `* + ? {2} {2,} {2,5}` and `(?i)` at the start. What
/// needs trying back (`\1`, `(?=`, `(?<name>`) is not.
package struct TagPattern: Sendable, Hashable {
    /// Steps of the program that an expression may become.
    static let programLimit = 1000
    static let textLimit = 4096

    /// Why a text is no expression: one sentence.
    package struct Mistake: Error, Hashable {
        package let message: String
    }

    package let source: String
    private let program: [Step]
    private let ignoresCase: Bool

    package init(_ source: String) throws(Mistake) {
        var parser = Parser(source)
        let tree = try parser.parse()
        var program: [Step] = []
        try Self.emit(tree, into: &program)
        program.append(.found)
        self.source = source
        self.program = program
        ignoresCase = parser.ignoresCase
    }

    package static func == (left: TagPattern, right: TagPattern) -> Bool { left.source == right.source }

    package func hash(into hasher: inout Hasher) { hasher.combine(source) }

    /// Whether the expression is found anywhere in `text`.
    /// - Parameter effort: steps that are left; counted down.
    /// - Returns: nil when the text is too long, or no steps are left.
    package func isFound(in text: String, effort: inout Int) -> Bool? {
        let scalars = Array(text.unicodeScalars.prefix(Self.textLimit + 1)).map { ignoresCase ? Self.folded($0) : $0 }
        guard scalars.count <= Self.textLimit else { return nil }
        var here = Threads(program.count)
        var next = Threads(program.count)
        for position in 0...scalars.count {
            // A match may begin at every position.
            if follow(0, at: position, of: scalars, into: &here, &effort) { return true }
            if effort <= 0 { return nil }
            guard position < scalars.count else { return false }
            for step in here.steps {
                guard case .one(let set) = program[step], set.contains(scalars[position], ignoresCase) else { continue }
                if follow(step + 1, at: position + 1, of: scalars, into: &next, &effort) { return true }
            }
            swap(&here, &next)
            next.clear()
        }
        return false
    }

    /// Adds `start` and all that is reached from it without reading to `threads`.
    /// - Returns: whether that is the end of the program.
    private func follow(
        _ start: Int, at position: Int, of text: [Unicode.Scalar], into threads: inout Threads, _ effort: inout Int
    ) -> Bool {
        var waiting = [start]
        while let step = waiting.popLast() {
            guard threads.insert(step) else { continue }
            effort -= 1
            switch program[step] {
            case .found: return true
            case .one: break
            case .fork(let first, let second): waiting += [second, first]
            case .jump(let target): waiting.append(target)
            case .only(let place): if place.holds(at: position, of: text) { waiting.append(step + 1) }
            }
        }
        return false
    }

    private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        let lower = scalar.properties.lowercaseMapping.unicodeScalars
        return lower.count == 1 ? lower.first ?? scalar : scalar
    }

    /// The steps that a match has come to, each once.
    private struct Threads {
        private(set) var steps: [Int] = []
        private var isIn: [Bool]

        init(_ count: Int) { isIn = Array(repeating: false, count: count) }

        mutating func insert(_ step: Int) -> Bool {
            guard !isIn[step] else { return false }
            isIn[step] = true
            steps.append(step)
            return true
        }

        mutating func clear() {
            for step in steps { isIn[step] = false }
            steps.removeAll(keepingCapacity: true)
        }
    }
}

// MARK: - The program

extension TagPattern {
    private enum Step: Sendable {
        case one(Characters)
        case fork(Int, Int)
        case jump(Int)
        case only(Place)
        case found
    }

    fileprivate enum Place: Sendable {
        case start
        case end
        case wordEdge
        case noWordEdge

        func holds(at position: Int, of text: [Unicode.Scalar]) -> Bool {
            switch self {
            case .start: return position == 0
            case .end: return position == text.count
            case .wordEdge, .noWordEdge:
                let before = position > 0 && Characters.isWord(text[position - 1])
                let after = position < text.count && Characters.isWord(text[position])
                return (before != after) == (self == .wordEdge)
            }
        }
    }

    fileprivate indirect enum Tree {
        case one(Characters)
        case only(Place)
        case sequence([Tree])
        case choice([Tree])
        /// `most` nil: without limit.
        case repeated(Tree, least: Int, most: Int?)
    }

    private static func emit(_ tree: Tree, into program: inout [Step]) throws(Mistake) {
        guard program.count < programLimit else {
            throw Mistake(message: "the expression is too large, its repetitions written out (\(programLimit) steps)")
        }
        switch tree {
        case .one(let set): program.append(.one(set))
        case .only(let place): program.append(.only(place))
        case .sequence(let parts): for part in parts { try emit(part, into: &program) }
        case .choice(let ways):
            var ends: [Int] = []
            for (number, way) in ways.enumerated() {
                guard number < ways.count - 1 else {
                    try emit(way, into: &program)
                    break
                }
                let fork = program.count
                program.append(.jump(0))
                try emit(way, into: &program)
                ends.append(program.count)
                program.append(.jump(0))
                program[fork] = .fork(fork + 1, program.count)
            }
            for end in ends { program[end] = .jump(program.count) }
        case .repeated(let part, let least, let most):
            for _ in 0..<least {
                let before = program.count
                try emit(part, into: &program)
                // What is empty is so however often: brackets of it in one another would take for ever to write out.
                guard program.count > before else { return }
            }
            guard let most else {
                let fork = program.count
                program.append(.jump(0))
                try emit(part, into: &program)
                program.append(.jump(fork))
                program[fork] = .fork(fork + 1, program.count)
                return
            }
            var forks: [Int] = []
            for _ in least..<max(least, most) {
                forks.append(program.count)
                program.append(.jump(0))
                try emit(part, into: &program)
            }
            for fork in forks { program[fork] = .fork(fork + 1, program.count) }
        }
    }
}

// MARK: - Sets of characters

extension TagPattern {
    fileprivate struct Characters: Sendable {
        enum Class: Sendable {
            case digit
            case word
            case space
        }

        enum Part: Sendable {
            case range(Unicode.Scalar, Unicode.Scalar)
            case kind(Class, isNegated: Bool)
        }

        var parts: [Part]
        var isNegated = false

        /// Everything but the end of a line.
        static let any = Characters(parts: [.range("\n", "\n")], isNegated: true)

        func contains(_ scalar: Unicode.Scalar, _ ignoresCase: Bool) -> Bool {
            var isIn = parts.contains { Self.holds($0, scalar) }
            if ignoresCase, !isIn {
                // The text comes in small letters.
                let upper = scalar.properties.uppercaseMapping.unicodeScalars
                if upper.count == 1, let upper = upper.first { isIn = parts.contains { Self.holds($0, upper) } }
            }
            return isIn != isNegated
        }

        private static func holds(_ part: Part, _ scalar: Unicode.Scalar) -> Bool {
            switch part {
            case .range(let first, let last): first <= scalar && scalar <= last
            case .kind(.digit, let isNegated): (scalar.properties.generalCategory == .decimalNumber) != isNegated
            case .kind(.word, let isNegated): isWord(scalar) != isNegated
            case .kind(.space, let isNegated): scalar.properties.isWhitespace != isNegated
            }
        }

        static func isWord(_ scalar: Unicode.Scalar) -> Bool {
            scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.generalCategory == .decimalNumber
        }
    }
}

// MARK: - Reading

extension TagPattern {
    private struct Parser {
        private static let depthLimit = 50
        private static let countLimit = 1000
        private static let special = Set("\\^$.|?*+()[]{}/-&~#@%:;,!<>='\"_ ".unicodeScalars)

        private let text: [Unicode.Scalar]
        private var position = 0
        private var depth = 0
        private(set) var ignoresCase = false

        init(_ source: String) { text = Array(source.unicodeScalars) }

        mutating func parse() throws(Mistake) -> Tree {
            guard !text.isEmpty else { throw Mistake(message: "the expression is empty") }
            guard text.count <= programLimit else { throw Mistake(message: "the expression is longer than \(programLimit) characters") }
            if text.starts(with: "(?i)".unicodeScalars) {
                ignoresCase = true
                position = 4
            }
            let tree = try choice()
            guard position == text.count else { throw mistake("a ) that closes nothing") }
            return tree
        }

        private var next: Unicode.Scalar? { position < text.count ? text[position] : nil }

        private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
            guard next == scalar else { return false }
            position += 1
            return true
        }

        private func mistake(_ what: String) -> Mistake { Mistake(message: "at character \(position + 1): \(what)") }

        private mutating func choice() throws(Mistake) -> Tree {
            var ways = [try sequence()]
            while take("|") { ways.append(try sequence()) }
            return ways.count == 1 ? ways[0] : .choice(ways)
        }

        private mutating func sequence() throws(Mistake) -> Tree {
            var parts: [Tree] = []
            while let scalar = next, scalar != "|", scalar != ")" { parts.append(try repetition()) }
            return .sequence(parts)
        }

        private mutating func repetition() throws(Mistake) -> Tree {
            let start = position
            let part = try atom()
            guard let (least, most) = try count() else { return part }
            if case .only = part {
                position = start
                throw mistake("a place such as ^ or \\b cannot be repeated")
            }
            // Few or many first makes no difference to whether there is a match.
            _ = take("?")
            if let scalar = next, "*+?{".unicodeScalars.contains(scalar) {
                throw mistake("a repetition of a repetition: put it into (?: )")
            }
            return .repeated(part, least: least, most: most)
        }

        private mutating func count() throws(Mistake) -> (Int, Int?)? {
            if take("*") { return (0, nil) }
            if take("+") { return (1, nil) }
            if take("?") { return (0, 1) }
            guard next == "{" else { return nil }
            let start = position
            position += 1
            guard let least = number() else {
                position = start
                throw mistake("{ begins a count such as {2}, {2,} or {2,5}; \\{ is the character")
            }
            var most: Int? = least
            if take(",") { most = number() }
            guard take("}"), most.map({ $0 >= least }) ?? true, max(least, most ?? 0) <= Self.countLimit else {
                position = start
                throw mistake("this is no count: {2}, {2,} or {2,5}, \(Self.countLimit) at most")
            }
            return (least, most)
        }

        private mutating func number() -> Int? {
            var digits = ""
            while let scalar = next, ("0"..."9").contains(scalar), digits.count < 6 {
                digits.unicodeScalars.append(scalar)
                position += 1
            }
            return Int(digits)
        }

        private mutating func atom() throws(Mistake) -> Tree {
            guard let scalar = next else { throw mistake("the expression ends too early") }
            switch scalar {
            case "(": return try group()
            case "[": return .one(try set())
            case ".":
                position += 1
                return .one(.any)
            case "^":
                position += 1
                return .only(.start)
            case "$":
                position += 1
                return .only(.end)
            case "\\": return try escape()
            case "*", "+", "?", "{": throw mistake("\(scalar) repeats nothing; \\\(scalar) is the character")
            default:
                position += 1
                return .one(literal(scalar))
            }
        }

        private func literal(_ scalar: Unicode.Scalar) -> Characters {
            let meant = ignoresCase ? TagPattern.folded(scalar) : scalar
            return Characters(parts: [.range(meant, meant)])
        }

        private mutating func group() throws(Mistake) -> Tree {
            let start = position
            position += 1
            if take("?"), !take(":") {
                position = start
                throw mistake("of the groups that begin with (? only (?: ) is understood, and (?i) at the very start")
            }
            depth += 1
            guard depth <= Self.depthLimit else { throw mistake("more than \(Self.depthLimit) brackets in one another") }
            let tree = try choice()
            depth -= 1
            guard take(")") else {
                position = start
                throw mistake("a ( that is not closed")
            }
            return tree
        }

        private mutating func escape() throws(Mistake) -> Tree {
            guard position + 1 < text.count else { throw mistake("a backslash at the end") }
            switch text[position + 1] {
            case "b":
                position += 2
                return .only(.wordEdge)
            case "B":
                position += 2
                return .only(.noWordEdge)
            default:
                switch try escaped() {
                case .range(let scalar, _): return .one(literal(scalar))
                case let kind: return .one(Characters(parts: [kind]))
                }
            }
        }

        /// A backslash and what follows, in brackets or outside.
        private mutating func escaped() throws(Mistake) -> Characters.Part {
            guard position + 1 < text.count else { throw mistake("a backslash at the end") }
            let scalar = text[position + 1]
            let part: Characters.Part
            switch scalar {
            case "d": part = .kind(.digit, isNegated: false)
            case "D": part = .kind(.digit, isNegated: true)
            case "w": part = .kind(.word, isNegated: false)
            case "W": part = .kind(.word, isNegated: true)
            case "s": part = .kind(.space, isNegated: false)
            case "S": part = .kind(.space, isNegated: true)
            case "t": part = .range("\t", "\t")
            case "n": part = .range("\n", "\n")
            case "r": part = .range("\r", "\r")
            default:
                guard Self.special.contains(scalar) else { throw mistake("\\\(scalar) is not understood") }
                part = .range(scalar, scalar)
            }
            position += 2
            return part
        }

        private mutating func set() throws(Mistake) -> Characters {
            let start = position
            position += 1
            var set = Characters(parts: [], isNegated: take("^"))
            while true {
                guard let scalar = next else {
                    position = start
                    throw mistake("a [ that is not closed")
                }
                if scalar == "]", !set.parts.isEmpty {
                    position += 1
                    return set
                }
                if scalar == "[" { throw mistake("a [ inside of brackets; \\[ is the character") }
                guard case .range(let first, _) = try setPart() else { continue }
                var last = first
                if next == "-", position + 1 < text.count, text[position + 1] != "]" {
                    position += 1
                    guard case .range(let end, _) = try setPart(), end >= first else { throw mistake("this is no range of characters") }
                    set.parts.removeLast(2)
                    last = end
                    set.parts.append(.range(first, last))
                }
            }

            /// Reads one character or class and adds it to the set.
            func setPart() throws(Mistake) -> Characters.Part {
                let part: Characters.Part
                if next == "\\" {
                    part = try escaped()
                } else if let scalar = next {
                    position += 1
                    part = .range(scalar, scalar)
                } else {
                    throw mistake("a [ that is not closed")
                }
                set.parts.append(part)
                return part
            }
        }
    }
}
