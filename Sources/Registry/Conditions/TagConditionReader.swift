import Jobs

/// Reads a condition as it stands in a settings file. Collects every mistake instead of stopping at the first.
struct TagConditionReader {
    private enum Scope {
        /// The event's; each series on its own.
        case event
        case series
        /// A study or a patient: no series to look at.
        case other
    }

    private static let nodeLimit = 500
    private static let depthLimit = 20
    private static let combining = ["all", "any", "not"]
    private static let scopes = ["anySeries", "everySeries", "study", "patient"]
    private static let counts = ["instances", "seriesCount"]
    private static let words = combining + scopes + counts + ["modality"]
    private static let wordsAllowed = "a DICOM keyword such as Modality, or one of \(words.joined(separator: ", "))"
    private static let operators = [
        "equals", "anyOf", "contains", "matches", "min", "max", "atLeast", "atMost", "between", "exists", "every",
    ]
    private static let synonyms = [
        "in": "anyOf", "oneof": "anyOf", "is": "equals", "eq": "equals", "regex": "matches", "match": "matches", "pattern": "matches",
        "like": "matches", "from": "min", "to": "max", "gte": "min", "lte": "max", "ge": "min", "le": "max", "minimum": "min",
        "maximum": "max",
        "present": "exists", "includes": "contains", "range": "between", "and": "all", "or": "any", "none": "not", "allof": "all",
        "series": "anySeries", "allseries": "everySeries", "eachseries": "everySeries", "someseries": "anySeries", "count": "instances",
        "images": "instances", "instancecount": "instances", "modalities": "modality",
    ]

    private(set) var mistakes: [TagCondition.Mistake] = []
    private var nodes = 0

    mutating func condition(_ value: JSONValue, path: String) -> TagCondition.Node? {
        condition(value, path, .event, depth: 0)
    }

    private mutating func condition(_ value: JSONValue, _ path: String, _ scope: Scope, depth: Int) -> TagCondition.Node? {
        nodes += 1
        guard nodes <= Self.nodeLimit, depth <= Self.depthLimit else {
            let isFirst = !mistakes.contains { $0.message.hasPrefix("the condition is too large") }
            if isFirst {
                report(
                    path, "the condition is too large.",
                    allowed: "\(Self.nodeLimit) parts, \(Self.depthLimit) of them in one another; or a callback")
            }
            return nil
        }
        guard let members = value.object else {
            return report(
                path, "\(EntryReader.shown(value)) is not a condition.", value: value,
                allowed: "an object such as {\"Modality\": [\"CT\", \"MR\"], \"SliceThickness\": {\"max\": 2}}")
        }
        guard !members.isEmpty else {
            return report(
                path, "the condition is empty, and would always hold.", value: value, allowed: "\(Self.wordsAllowed); or no condition")
        }
        let parts = members.keys.sorted().map { member($0, members[$0] ?? .null, "\(path).\($0)", scope, depth: depth) }
        let read = parts.compactMap(\.self)
        guard read.count == parts.count else { return nil }
        return read.count == 1 ? read[0] : .all(read)
    }

    private mutating func member(_ key: String, _ value: JSONValue, _ path: String, _ scope: Scope, depth: Int) -> TagCondition.Node? {
        switch key {
        case "all": return list(value, path, scope, depth: depth).map(TagCondition.Node.all)
        case "any": return list(value, path, scope, depth: depth).map(TagCondition.Node.any)
        case "not": return condition(value, path, scope, depth: depth + 1).map(TagCondition.Node.not)
        case "anySeries", "everySeries", "study", "patient":
            guard scope == .event else {
                return report(
                    path, "\(key) stands inside of another one of its kind.", allowed: "\(Self.scopes.joined(separator: ", ")) side by side"
                )
            }
            guard let node = condition(value, path, key.hasSuffix("Series") ? .series : .other, depth: depth + 1) else { return nil }
            switch key {
            case "anySeries": return .anySeries(node)
            case "everySeries": return .everySeries(node)
            case "study": return .study(node)
            default: return .patient(node)
            }
        case "instances":
            guard scope != .other else {
                return report(path, "instances are counted in a series.", allowed: "put it outside, or into anySeries")
            }
            return range(value, path).map(TagCondition.Node.instances)
        case "seriesCount":
            guard scope == .event else { return report(path, "seriesCount counts the series of the event.", allowed: "put it outside") }
            return range(value, path).map(TagCondition.Node.seriesCount)
        case "modality": return test(value, path).map { .tag("Modality", $0) }
        default:
            guard isKeyword(key, path) else { return nil }
            return test(value, path).map { .tag(key, $0) }
        }
    }

    private mutating func isKeyword(_ key: String, _ path: String) -> Bool {
        let nearest = Self.synonyms[key.lowercased()].flatMap { Self.words.contains($0) ? $0 : nil }
        let isWord = key.unicodeScalars.allSatisfy { $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0)) }
        guard isWord, let first = key.unicodeScalars.first, ("A"..."Z").contains(first) else {
            let isNumber = key.filter { $0.isASCII && $0.isHexDigit }.count == 8
            report(
                path, "there is no \(key) in conditions." + (isNumber ? " Tags go by their keywords, not by their numbers." : ""),
                allowed: Self.wordsAllowed,
                nearest: nearest ?? TagVocabulary.spelled(key) ?? NearestName.of(key, among: Self.words))
            return false
        }
        if let nearest = Self.words.first(where: { $0.lowercased() == key.lowercased() && $0 != "modality" }) {
            report(path, "there is no tag \(key).", allowed: Self.wordsAllowed, nearest: nearest)
            return false
        }
        if let meant = TagVocabulary.meant(by: key) {
            report(
                path, "no frequent tag is called \(key); where it is missing the condition does not hold.", nearest: meant, isError: false)
        }
        return true
    }

    private mutating func list(_ value: JSONValue, _ path: String, _ scope: Scope, depth: Int) -> [TagCondition.Node]? {
        guard let elements = value.array, !elements.isEmpty else {
            return report(
                path, "\(EntryReader.shown(value)) is not a list of conditions.", value: value, allowed: "a list of one condition or more")
        }
        let read = elements.enumerated().map { condition($0.element, "\(path)[\($0.offset)]", scope, depth: depth + 1) }
        let nodes = read.compactMap(\.self)
        return nodes.count == read.count ? nodes : nil
    }

    // MARK: Tests of one tag

    private mutating func test(_ value: JSONValue, _ path: String) -> TagTest? {
        guard let members = value.object else { return wanted(value, path).map { TagTest(checks: [.anyOf($0)]) } }
        let before = mistakes.count { $0.isError }
        var test = TagTest()
        var isBounded = false
        for key in members.keys.sorted() {
            let value = members[key] ?? .null
            let path = "\(path).\(key)"
            switch key {
            case "equals", "anyOf": if let wanted = wanted(value, path) { test.checks.append(.anyOf(wanted)) }
            case "contains":
                if let text = text(value, path) { test.checks.append(.contains(text)) }
            case "matches":
                guard let text = text(value, path) else { continue }
                do throws(TagPattern.Mistake) {
                    test.checks.append(.matches(try TagPattern(text)))
                } catch {
                    report(
                        path, "\(EntryReader.shown(value)) is not a regular expression that is understood: \(error.message).", value: value,
                        allowed: "letters, . [a-z] \\d \\w \\s \\b ^ $ ( ) | * + ? {2,5}, and (?i) at the start")
                }
            case "min", "max", "atLeast", "atMost", "between": isBounded = true
            case "exists", "every":
                guard let flag = value.bool else {
                    report(path, "\(EntryReader.shown(value)) is neither true nor false.", value: value, allowed: "true, false")
                    continue
                }
                if key == "exists" { test.exists = flag } else { test.isForEvery = flag }
            default: reportOperator(key, path, value)
            }
        }
        if isBounded, let range = bounds(members, path) { test.checks.append(.within(range)) }
        guard mistakes.count(where: \.isError) == before else { return nil }
        if test.exists == false, !test.checks.isEmpty {
            return report(path, "a tag that is not there has no value to ask for.", value: value, allowed: "exists: false alone")
        }
        // What is asked of a value asks for the tag too.
        if !test.checks.isEmpty { test.exists = nil }
        guard test.exists != nil || !test.checks.isEmpty else {
            return report(path, "nothing is asked of the tag.", value: value, allowed: Self.operators.joined(separator: ", "))
        }
        return test
    }

    private mutating func reportOperator(_ key: String, _ path: String, _ value: JSONValue) {
        let synonym = Self.synonyms[key.lowercased()].flatMap { Self.operators.contains($0) ? $0 : nil }
        report(
            path, "there is no \(key) to ask of a tag.", value: value, allowed: Self.operators.joined(separator: ", "),
            nearest: synonym ?? NearestName.of(key, among: Self.operators))
    }

    private mutating func text(_ value: JSONValue, _ path: String) -> String? {
        guard let text = value.string, !text.isEmpty else {
            return report(path, "\(EntryReader.shown(value)) is not a text.", value: value, allowed: "a text")
        }
        return text
    }

    private mutating func wanted(_ value: JSONValue, _ path: String) -> [TagTest.Wanted]? {
        let elements = value.array ?? [value]
        let wanted = elements.compactMap { element -> TagTest.Wanted? in
            switch element {
            case .string(let text): text.tagValue.isEmpty ? nil : .text(text.tagValue)
            case .integer(let number): .number(Double(number))
            case .number(let number): .number(number)
            default: nil
            }
        }
        guard !wanted.isEmpty, wanted.count == elements.count, wanted.count <= Self.nodeLimit else {
            return report(
                path, "\(EntryReader.shown(value)) is nothing that a tag can be.", value: value,
                allowed: "a text, a number, a list of them, or an object with \(Self.operators.joined(separator: ", "))")
        }
        return wanted
    }

    // MARK: Numbers

    private mutating func range(_ value: JSONValue, _ path: String) -> NumberRange? {
        if let number = number(value) { return NumberRange(min: number, max: number) }
        guard let members = value.object, !members.isEmpty else {
            return report(
                path, "\(EntryReader.shown(value)) is not a count.", value: value, allowed: "a number, or an object such as {\"min\": 10}")
        }
        let before = mistakes.count
        let known: Set = ["min", "max", "atLeast", "atMost", "between"]
        for key in members.keys.sorted() where !known.contains(key) {
            let synonym = Self.synonyms[key.lowercased()].flatMap { known.contains($0) ? $0 : nil }
            report(
                "\(path).\(key)", "there is no \(key) to ask of a count.", value: members[key],
                allowed: known.sorted().joined(separator: ", "),
                nearest: synonym ?? NearestName.of(key, among: known))
        }
        guard let range = bounds(members, path), mistakes.count == before else { return nil }
        return range
    }

    private mutating func bounds(_ members: [String: JSONValue], _ path: String) -> NumberRange? {
        var range = NumberRange()
        let before = mistakes.count
        for key in ["min", "atLeast", "max", "atMost"] {
            guard let value = members[key] else { continue }
            guard let number = number(value) else {
                report("\(path).\(key)", "\(EntryReader.shown(value)) is not a number.", value: value, allowed: "a number such as 2 or 0.5")
                continue
            }
            if ["min", "atLeast"].contains(key) {
                range.min = Swift.max(range.min ?? number, number)
            } else {
                range.max = Swift.min(range.max ?? number, number)
            }
        }
        if let value = members["between"] {
            let ends = (value.array ?? []).compactMap(number)
            if ends.count == 2, value.array?.count == 2 {
                range.min = Swift.max(range.min ?? ends[0], ends[0])
                range.max = Swift.min(range.max ?? ends[1], ends[1])
            } else {
                report(
                    "\(path).between", "\(EntryReader.shown(value)) is not a range.", value: value, allowed: "two numbers, such as [0.5, 2]"
                )
            }
        }
        guard mistakes.count == before else { return nil }
        if let min = range.min, let max = range.max, min > max {
            return report(
                path, "no number is \(TagNumber.text(min)) or more and \(TagNumber.text(max)) or less.", allowed: "min before max")
        }
        return range
    }

    private func number(_ value: JSONValue) -> Double? {
        switch value {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }

    // MARK: Mistakes

    /// - Returns: nil, for whoever has nothing else to return.
    @discardableResult
    private mutating func report<Nothing>(
        _ path: String, _ message: String, value: JSONValue? = nil, allowed: String? = nil, nearest: String? = nil, isError: Bool = true
    ) -> Nothing? {
        report(path, message, value: value, allowed: allowed, nearest: nearest, isError: isError)
        return nil
    }

    private mutating func report(
        _ path: String, _ message: String, value: JSONValue? = nil, allowed: String? = nil, nearest: String? = nil, isError: Bool = true
    ) {
        // A wide condition could be wrong everywhere.
        guard mistakes.count < 50 else { return }
        mistakes.append(
            TagCondition.Mistake(path: path, message: message, value: value, allowed: allowed, nearest: nearest, isError: isError))
    }
}

extension String {
    /// Without what DICOM pads values with.
    var tagValue: String {
        let isPadding: (Character) -> Bool = { $0 == " " || $0 == "\0" }
        return String(drop(while: isPadding).reversed().drop(while: isPadding).reversed())
    }
}
