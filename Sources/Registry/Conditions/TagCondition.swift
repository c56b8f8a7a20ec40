package import Jobs

/// What `when` says: whether a job applies to an event, by the tags of its series.
///
/// A condition is asked of each series of the event on its own, and holds when it holds for one of them. `anySeries`, `everySeries`, `study` and
/// `patient` look at what they name instead. What depends on a tag that is missing is undecided, under `not` too, and an undecided
/// condition does not hold: a guess about a patient's images is worse than no job.
package struct TagCondition: Sendable, Hashable {
    indirect enum Node: Sendable, Hashable {
        case all([Node])
        case any([Node])
        case not(Node)
        case anySeries(Node)
        case everySeries(Node)
        case study(Node)
        case patient(Node)
        case tag(String, TagTest)
        /// How many images the series has.
        case instances(NumberRange)
        /// How many series the event has.
        case seriesCount(NumberRange)
    }

    let root: Node

    /// - Parameter mistakes: what is wrong; with errors among them there is no condition.
    package static func read(_ value: JSONValue, mistakes: inout [Mistake]) -> TagCondition? {
        var reader = TagConditionReader()
        let root = reader.condition(value, path: "when")
        mistakes += reader.mistakes
        guard let root, !reader.mistakes.contains(where: \.isError) else { return nil }
        return TagCondition(root: root)
    }

    /// Something wrong in a condition.
    package struct Mistake: Sendable, Hashable {
        /// `when.any[1].SliceThickness.min`
        package var path: String
        package var message: String
        package var value: JSONValue?
        package var allowed: String?
        package var nearest: String?
        package var isError = true
    }
}

/// What is asked of the values of one tag: all of it.
struct TagTest: Sendable, Hashable {
    enum Wanted: Sendable, Hashable {
        /// Without regard to upper and lower case.
        case text(String)
        case number(Double)
    }

    enum Check: Sendable, Hashable {
        case anyOf([Wanted])
        case contains(String)
        case matches(TagPattern)
        case within(NumberRange)
    }

    /// Whether the tag has to be there, with a value; nil when that is not what is asked.
    var exists: Bool?
    var checks: [Check] = []
    /// Whether each value of several has to pass, and not any one.
    var isForEvery = false
}

/// Both ends belong to it.
struct NumberRange: Sendable, Hashable {
    var min: Double?
    var max: Double?

    func contains(_ number: Double) -> Bool { number >= min ?? -.infinity && number <= max ?? .infinity }
}

// MARK: - In words

extension TagCondition: CustomStringConvertible {
    /// As its author would say it.
    package var description: String { root.words }
}

extension TagCondition.Node {
    fileprivate var words: String {
        switch self {
        case .all(let nodes): nodes.map(\.bracketed).joined(separator: " and ")
        case .any(let nodes): nodes.map(\.bracketed).joined(separator: " or ")
        case .not(let node): "not \(node.bracketed)"
        case .anySeries(let node): "any series: \(node.bracketed)"
        case .everySeries(let node): "every series: \(node.bracketed)"
        case .study(let node): "study: \(node.bracketed)"
        case .patient(let node): "patient: \(node.bracketed)"
        case .tag(let keyword, let test): test.words(keyword)
        case .instances(let range): "\(range.words) instances"
        case .seriesCount(let range): "\(range.words) series"
        }
    }

    private var bracketed: String {
        switch self {
        case .all(let nodes) where nodes.count > 1, .any(let nodes) where nodes.count > 1: "(\(words))"
        default: words
        }
    }

    /// Whether it is about the one series that is looked at.
    var isAboutOneSeries: Bool {
        switch self {
        case .all(let nodes), .any(let nodes): nodes.contains(where: \.isAboutOneSeries)
        case .not(let node): node.isAboutOneSeries
        case .tag, .instances, .study, .patient: true
        case .anySeries, .everySeries, .seriesCount: false
        }
    }
}

extension TagTest {
    func words(_ keyword: String) -> String {
        if let exists { return "\(keyword) is \(exists ? "there" : "not there")" }
        return "\(isForEvery ? "every value of " : "")\(keyword) is \(asked)"
    }

    /// What the checks ask for.
    var asked: String {
        checks.map { check in
            switch check {
            case .anyOf(let wanted): wanted.map(\.words).joined(separator: " or ")
            case .contains(let part): "a text with \(part)"
            case .matches(let pattern): "a match of /\(pattern.source)/"
            case .within(let range): range.words
            }
        }.joined(separator: " and ")
    }
}

extension TagTest.Wanted {
    fileprivate var words: String {
        switch self {
        case .text(let text): text
        case .number(let number): TagNumber.text(number)
        }
    }
}

extension NumberRange {
    var words: String {
        switch (min, max) {
        case (let min?, let max?): min == max ? TagNumber.text(min) : "\(TagNumber.text(min)) to \(TagNumber.text(max))"
        case (let min?, nil): "\(TagNumber.text(min)) or more"
        case (nil, let max?): "\(TagNumber.text(max)) or less"
        case (nil, nil): "any number"
        }
    }
}
