package import Jobs

/// What became of a condition, with the reason in words that carry nothing about a person.
package struct ConditionVerdict: Sendable, Hashable {
    package enum Truth: Sendable, Hashable {
        case holds
        case fails
        /// It depends on a tag that is missing, or that cannot be read as what is asked. Counts as failing, under `not` too.
        case undecided
    }

    package var truth: Truth
    /// Statements about the event, joined: `Modality is MR, not CT (2 of 3 series); SliceThickness is missing (1 of 3 series)`.
    package var reason: String
}

/// The tags of an event, series by series.
package struct EventTags: Sendable {
    struct Series: Sendable {
        var tags: [String: JSONValue]
        var study: [String: JSONValue]
        var patient: [String: JSONValue]
        var instances: Int?
    }

    let series: [Series]

    /// - Parameters:
    ///   - headers: upstream's, unfiltered.
    ///   - instances: how many images a series has, by its id.
    package init(level: ResourceLevel, headers: JSONValue, instances: [String: Int] = [:]) {
        func tags(_ node: JSONValue) -> [String: JSONValue] { node["tags"]?.object ?? [:] }
        func count(_ id: JSONValue?) -> Int? { id?.string.flatMap { instances[$0] } }
        switch level {
        case .series:
            let flat = headers.object ?? [:]
            series = [Series(tags: flat, study: flat, patient: flat, instances: count(headers["seriesId"]))]
        case .study, .patient:
            let top = tags(headers)
            series = (headers["studies"]?.array ?? []).flatMap { study in
                let own = level == .study ? top.merging(tags(study)) { _, own in own } : tags(study)
                return (study["series"]?.array ?? []).map {
                    Series(tags: tags($0), study: own, patient: top, instances: count($0["id"]))
                }
            }
        }
    }
}

extension TagCondition {
    /// Asks the condition of an event. Takes bounded time, whatever the condition and the values are.
    package func verdict(on event: EventTags) -> ConditionVerdict {
        var asking = Asking(event: event)
        guard !event.series.isEmpty else { return ConditionVerdict(truth: .fails, reason: "the event has no series") }
        let finding = root.isAboutOneSeries ? asking.anySeries(root) : asking.ask(root, of: .series(0))
        return ConditionVerdict(truth: finding.truth, reason: Finding.text(finding.facts))
    }
}

private typealias Truth = ConditionVerdict.Truth

/// What one part of a condition came to, and the statements that decided it.
private struct Finding {
    struct Fact: Hashable {
        var text: String
        /// Not yet counted over the series.
        var isAboutSeries: Bool
    }

    var truth: Truth
    var facts: [Fact]

    private static let most = 6

    static func text(_ facts: [Fact]) -> String {
        var unique: [String] = []
        for fact in facts where !unique.contains(fact.text) { unique.append(fact.text) }
        let rest = unique.count - most
        return unique.prefix(most).joined(separator: "; ") + (rest > 0 ? "; and \(rest) more" : "")
    }
}

private struct Asking {
    /// What is looked at.
    enum Place {
        case series(Int)
        case study(Int)
        case patient(Int)
    }

    let event: EventTags
    /// Steps of matching and looks at values that are left.
    var effort = 5_000_000

    mutating func ask(_ node: TagCondition.Node, of place: Place) -> Finding {
        switch node {
        case .all(let nodes): return combined(nodes, place, decisive: .fails)
        case .any(let nodes): return combined(nodes, place, decisive: .holds)
        case .not(let node):
            var finding = ask(node, of: place)
            finding.truth = finding.truth == .holds ? .fails : finding.truth == .fails ? .holds : .undecided
            return finding
        case .anySeries(let node): return anySeries(node)
        case .everySeries(let node): return overSeries(node, decisive: .fails)
        case .study(let node): return ask(node, of: .study(place.index))
        case .patient(let node): return ask(node, of: .patient(place.index))
        case .tag(let keyword, let test): return ask(test, of: keyword, place)
        case .instances(let range): return instances(range, place.index)
        case .seriesCount(let range):
            let count = event.series.count
            let holds = range.contains(Double(count))
            let text = "the event has \(count) series" + (holds ? "" : ", not \(range.words)")
            return Finding(truth: holds ? .holds : .fails, facts: [.init(text: text, isAboutSeries: false)])
        }
    }

    mutating func anySeries(_ node: TagCondition.Node) -> Finding { overSeries(node, decisive: .holds) }

    /// One part that is `decisive` decides; else one that is undecided leaves it open.
    private mutating func combined(_ nodes: [TagCondition.Node], _ place: Place, decisive: Truth) -> Finding {
        merged(nodes.map { ask($0, of: place) }, decisive: decisive)
    }

    private func merged(_ findings: [Finding], decisive: Truth) -> Finding {
        let truth =
            findings.contains { $0.truth == decisive }
            ? decisive : findings.contains { $0.truth == .undecided } ? .undecided : decisive.opposite
        return Finding(truth: truth, facts: findings.filter { $0.truth == truth }.flatMap(\.facts))
    }

    private mutating func overSeries(_ node: TagCondition.Node, decisive: Truth) -> Finding {
        var finding = merged(event.series.indices.map { ask(node, of: .series($0)) }, decisive: decisive)
        let count = event.series.count
        var order: [Finding.Fact] = []
        var numbers: [Finding.Fact: Int] = [:]
        for fact in finding.facts {
            if numbers[fact] == nil { order.append(fact) }
            numbers[fact, default: 0] += 1
        }
        finding.facts = order.map { fact in
            guard fact.isAboutSeries, count > 1 else { return .init(text: fact.text, isAboutSeries: false) }
            return .init(text: "\(fact.text) (\(numbers[fact] ?? 1) of \(count) series)", isAboutSeries: false)
        }
        return finding
    }

    private func instances(_ range: NumberRange, _ index: Int) -> Finding {
        guard let count = event.series[index].instances else {
            return Finding(truth: .undecided, facts: [.init(text: "the number of instances is not known", isAboutSeries: true)])
        }
        let holds = range.contains(Double(count))
        let text = "the series has \(count) instances" + (holds ? "" : ", not \(range.words)")
        return Finding(truth: holds ? .holds : .fails, facts: [.init(text: text, isAboutSeries: true)])
    }

    // MARK: Tags

    private mutating func ask(_ test: TagTest, of keyword: String, _ place: Place) -> Finding {
        let (tags, owner) = tags(place)
        func finding(_ truth: Truth, _ text: String) -> Finding {
            Finding(truth: truth, facts: [.init(text: "\(owner)\(keyword) \(text)", isAboutSeries: place.isSeries)])
        }
        effort -= 1
        guard effort > 0 else { return finding(.undecided, "takes too long to be looked at") }
        let values = Self.values(of: tags[keyword])
        if let exists = test.exists {
            let isThere = tags[keyword] != nil && values.map { !$0.isEmpty } ?? true
            return finding(isThere == exists ? .holds : .fails, isThere ? "is there" : tags[keyword] == nil ? "is missing" : "is empty")
        }
        guard tags[keyword] != nil else { return finding(.undecided, "is missing") }
        guard let values else { return finding(.undecided, "is a sequence, of which nothing but its existence can be asked") }
        guard !values.isEmpty else { return finding(.undecided, "is empty") }

        let truths = values.map { value in Self.all(test.checks.map { check(value, $0) }) }
        let truth = test.isForEvery ? Self.all(truths) : Self.any(truths)
        let shown = TagVocabulary.shown(values, of: keyword)
        switch truth {
        case .holds: return finding(.holds, shown.map { "is \($0)" } ?? "is as asked")
        case .fails: return finding(.fails, shown.map { "is \($0), not \(test.asked)" } ?? "is not as asked")
        case .undecided: return finding(.undecided, "cannot be read as what is asked")
        }
    }

    private func tags(_ place: Place) -> ([String: JSONValue], String) {
        switch place {
        case .series(let index): (event.series[index].tags, "")
        case .study(let index): (event.series[index].study, "the study's ")
        case .patient(let index): (event.series[index].patient, "the patient's ")
        }
    }

    /// The values of a tag, without padding; empty ones are none. nil for a sequence.
    private static func values(of tag: JSONValue?) -> [String]? {
        switch tag {
        case .string(let text):
            text.split(separator: "\\", omittingEmptySubsequences: true).map { String($0).tagValue }.filter { !$0.isEmpty }
        case .integer(let number): ["\(number)"]
        case .number(let number): [TagNumber.text(number)]
        case .array, .object: nil
        case .bool, .null, nil: []
        }
    }

    private mutating func check(_ value: String, _ check: TagTest.Check) -> Truth {
        effort -= 1
        switch check {
        case .anyOf(let wanted):
            let lower = value.lowercased()
            return Self.any(
                wanted.map { wanted in
                    switch wanted {
                    case .text(let text): text.lowercased() == lower ? .holds : .fails
                    case .number(let number): TagNumber.parse(value).map { $0 == number ? .holds : .fails } ?? .undecided
                    }
                })
        case .contains(let part): return value.lowercased().contains(part.lowercased()) ? .holds : .fails
        case .matches(let pattern): return pattern.isFound(in: value, effort: &effort).map { $0 ? .holds : .fails } ?? .undecided
        case .within(let range): return TagNumber.parse(value).map { range.contains($0) ? .holds : .fails } ?? .undecided
        }
    }

    private static func all(_ truths: [Truth]) -> Truth {
        truths.contains(.fails) ? .fails : truths.contains(.undecided) ? .undecided : .holds
    }

    private static func any(_ truths: [Truth]) -> Truth {
        truths.contains(.holds) ? .holds : truths.contains(.undecided) ? .undecided : .fails
    }
}

extension ConditionVerdict.Truth {
    fileprivate var opposite: Self { self == .holds ? .fails : .holds }
}

extension Asking.Place {
    fileprivate var index: Int {
        switch self {
        case .series(let index), .study(let index), .patient(let index): index
        }
    }

    fileprivate var isSeries: Bool {
        if case .series = self { true } else { false }
    }
}
