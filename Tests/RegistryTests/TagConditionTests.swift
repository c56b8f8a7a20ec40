import Foundation
import Jobs
import Registry
import TestSupport
import Testing

private func condition(_ json: String) throws -> TagCondition {
    var mistakes: [TagCondition.Mistake] = []
    let read = TagCondition.read(try JSONValue(json: Data(json.utf8)), mistakes: &mistakes)
    return try #require(read, "\(mistakes)")
}

/// A study as ingest shapes it.
private func study(_ series: [String: JSONValue]..., study: [String: JSONValue] = [:], patient: [String: JSONValue] = [:]) -> EventTags {
    EventTags(
        level: .study,
        headers: [
            "id": "t", "tags": .object(study.merging(patient) { own, _ in own }), "dcmpath": "dicom/1",
            "studies": [
                [
                    "id": "t", "tags": .object(study),
                    "series": .array(series.enumerated().map { ["id": .string("s\($0.offset)"), "tags": .object($0.element)] }),
                ]
            ],
        ], instances: ["s0": 10, "s1": 200])
}

@Suite struct TagConditionTests {
    private let mixed = study(
        ["Modality": "CT", "SliceThickness": "1.25", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL", "SeriesDescription": "Thorax Doe"],
        ["Modality": "MR", "SliceThickness": "5 ", "SeriesDescription": "AX T1 MPRAGE"], ["Modality": "SR"],
        study: ["StudyDescription": "Doe Jane"], patient: ["PatientID": "4711", "PatientAge": "006M"])

    @Test(arguments: [
        (#"{"Modality": "CT"}"#, ConditionVerdict.Truth.holds), (#"{"modality": ["PT", "mr"]}"#, .holds), (#"{"Modality": "US"}"#, .fails),
        (#"{"Modality": "CT", "SliceThickness": {"max": 2}}"#, .holds), (#"{"Modality": "MR", "SliceThickness": {"max": 2}}"#, .fails),
        (#"{"SliceThickness": {"min": 5, "max": 5}}"#, .holds), (#"{"SliceThickness": {"between": [2, 4]}}"#, .undecided),
        (#"{"SliceThickness": {"atLeast": 4.9, "atMost": 9}}"#, .holds), (#"{"SliceThickness": 1.25}"#, .holds),
        (#"{"ImageType": "primary"}"#, .holds), (#"{"ImageType": {"equals": "PRIMARY", "every": true}}"#, .undecided),
        (#"{"SeriesDescription": {"matches": "(?i)t1.*"}}"#, .holds), (#"{"SeriesDescription": {"contains": "t1"}}"#, .holds),
        (#"{"not": {"Modality": "CT"}}"#, .holds), (#"{"not": {"anySeries": {"Modality": "CT"}}}"#, .fails),
        (#"{"everySeries": {"Modality": ["CT", "MR", "SR"]}}"#, .holds), (#"{"everySeries": {"Modality": "CT"}}"#, .fails),
        (#"{"everySeries": {"SliceThickness": {"min": 0}}}"#, .undecided), (#"{"everySeries": {"SliceThickness": {"min": 2}}}"#, .fails),
        (#"{"any": [{"Modality": "US"}, {"Modality": "SR"}]}"#, .holds), (#"{"all": [{"Modality": "CT"}, {"Modality": "SR"}]}"#, .fails),
        (#"{"anySeries": {"Modality": "CT"}, "all": [{"Modality": "SR"}]}"#, .holds),
        (#"{"study": {"StudyDescription": {"contains": "doe"}}}"#, .holds), (#"{"patient": {"PatientAge": {"max": 1}}}"#, .holds),
        (#"{"patient": {"PatientAge": {"min": 1}}}"#, .fails), (#"{"patient": {"PatientSex": "M"}}"#, .undecided),
        (#"{"not": {"patient": {"PatientSex": "M"}}}"#, .undecided), (#"{"patient": {"PatientSex": {"exists": false}}}"#, .holds),
        (#"{"seriesCount": 3}"#, .holds), (#"{"seriesCount": {"min": 4}}"#, .fails), (#"{"instances": {"min": 100}}"#, .holds),
        (#"{"everySeries": {"instances": {"min": 1}}}"#, .undecided), (#"{"instances": {"min": 100}, "Modality": "CT"}"#, .fails),
        (#"{"SliceThickness": {"exists": true}, "Modality": "SR"}"#, .fails), (#"{"SeriesDescription": {"min": 3}}"#, .undecided),
    ])
    func asksAStudy(_ json: String, _ expected: ConditionVerdict.Truth) throws {
        let verdict = try condition(json).verdict(on: mixed)
        #expect(verdict.truth == expected, "\(verdict.reason)")
        #expect(!verdict.reason.isEmpty)
        #expect(!verdict.reason.lowercased().contains("doe") && !verdict.reason.contains("4711") && !verdict.reason.contains("T1"))
    }

    @Test(arguments: [
        (
            #"{"Modality": "US"}"#,
            "Modality is CT, not US (1 of 3 series); Modality is MR, not US (1 of 3 series); Modality is SR, not US (1 of 3 series)"
        ),
        (#"{"Modality": "CT"}"#, "Modality is CT (1 of 3 series)"),
        (#"{"SliceThickness": {"min": 9}}"#, "SliceThickness is missing (1 of 3 series)"),
        (
            #"{"Modality": ["CT", "MR"], "SliceThickness": {"min": 9}}"#,
            "SliceThickness is 1.25, not 9 or more (1 of 3 series); SliceThickness is 5, not 9 or more (1 of 3 series); Modality is SR, not CT or MR (1 of 3 series)"
        ),
        (#"{"SeriesDescription": {"matches": "(?i)doe"}}"#, "SeriesDescription is as asked (1 of 3 series)"),
        (#"{"patient": {"PatientID": "4711"}}"#, "the patient's PatientID is as asked"),
        (#"{"patient": {"PatientID": "4712"}}"#, "the patient's PatientID is not as asked"),
        (#"{"seriesCount": {"min": 4}}"#, "the event has 3 series, not 4 or more"),
        (#"{"everySeries": {"instances": {"min": 50}}}"#, "the series has 10 instances, not 50 or more (1 of 3 series)"),
    ])
    func explains(_ json: String, _ reason: String) throws {
        let verdict = try condition(json).verdict(on: mixed)
        #expect(verdict.reason == reason)
    }

    @Test("A tag that may be shown with a value that it should not have is not shown")
    func hidesWhatIsNoCode() throws {
        for modality in ["Doe^Jane", "CT for Jane", "DOE JANE", "DOE^JANE", "19700101", "19700101 Jane Doe of Elm Street"] {
            let verdict = try condition(#"{"Modality": "US", "Rows": 512}"#).verdict(
                on: study(["Modality": .string(modality), "Rows": "Jane"]))
            #expect(verdict.reason == "Modality is not as asked")
        }
        let verdict = try condition(#"{"Rows": 512}"#).verdict(on: study(["Rows": "Jane"]))
        #expect(verdict.reason == "Rows cannot be read as what is asked")
    }

    @Test func asksASeriesAndAPatient() throws {
        let flat = EventTags(
            level: .series, headers: ["Modality": "CT", "StudyDescription": "x", "PatientID": "1", "seriesId": "s0"], instances: ["s0": 3])
        for json in [
            #"{"Modality": "CT", "instances": 3, "seriesCount": 1}"#, #"{"study": {"StudyDescription": "X"}, "patient": {"PatientID": 1}}"#,
            #"{"everySeries": {"Modality": "CT"}}"#,
        ] {
            let verdict = try condition(json).verdict(on: flat)
            #expect(verdict.truth == .holds, "\(verdict.reason)")
        }
        let patient = EventTags(
            level: .patient,
            headers: [
                "tags": ["PatientID": "1"],
                "studies": [
                    ["id": "t1", "tags": ["StudyDescription": "Knee"], "series": [["id": "a", "tags": ["Modality": "MR"]]]],
                    ["id": "t2", "tags": ["StudyDescription": "Head"], "series": [["id": "b", "tags": ["Modality": "CT"]]]],
                ],
            ])
        // The study is that of the series.
        #expect(try condition(#"{"study": {"StudyDescription": "knee"}, "Modality": "MR"}"#).verdict(on: patient).truth == .holds)
        #expect(try condition(#"{"study": {"StudyDescription": "knee"}, "Modality": "CT"}"#).verdict(on: patient).truth == .fails)
        #expect(try condition(#"{"patient": {"PatientID": "1"}, "seriesCount": 2}"#).verdict(on: patient).truth == .holds)
        #expect(try condition(#"{"Modality": "CT"}"#).verdict(on: EventTags(level: .study, headers: [:])).truth == .fails)
    }

    @Test(
        "A mistake names its place, and what was meant",
        arguments: [
            ("[]", "when", nil), ("{}", "when", nil), (#"{"any": []}"#, "when.any", nil),
            (#"{"any": {"Modality": "CT"}}"#, "when.any", nil),
            (#"{"any": [{"Modality": "CT"}, {"SliceThickness": {"mim": 1}}]}"#, "when.any[1].SliceThickness.mim", "min"),
            (#"{"Modality": {"regex": "a"}}"#, "when.Modality.regex", "matches"),
            (#"{"Modality": {"matches": "("}}"#, "when.Modality.matches", nil),
            (#"{"Modality": null}"#, "when.Modality", nil), (#"{"Modality": []}"#, "when.Modality", nil),
            (#"{"Modality": ""}"#, "when.Modality", nil),
            (#"{"Modality": {}}"#, "when.Modality", nil), (#"{"Rows": {"min": "512"}}"#, "when.Rows.min", nil),
            (#"{"Rows": {"between": [1]}}"#, "when.Rows.between", nil), (#"{"Rows": {"min": 2, "max": 1}}"#, "when.Rows", nil),
            (#"{"sliceThickness": 1}"#, "when.sliceThickness", "SliceThickness"),
            (#"{"anyseries": {"Modality": "CT"}}"#, "when.anyseries", "anySeries"),
            (#"{"AnySeries": {"Modality": "CT"}}"#, "when.AnySeries", "anySeries"), (#"{"0008,0060": "CT"}"#, "when.0008,0060", nil),
            (#"{"study": {"anySeries": {"Modality": "CT"}}}"#, "when.study.anySeries", nil),
            (#"{"patient": {"instances": 3}}"#, "when.patient.instances", nil),
            (#"{"instances": {"least": 3}}"#, "when.instances.least", nil),
            (#"{"Modality": {"exists": "yes"}}"#, "when.Modality.exists", nil),
            (#"{"Modality": {"exists": false, "equals": "CT"}}"#, "when.Modality", nil),
            (#"{"or": [{"Modality": "CT"}]}"#, "when.or", "any"),
        ])
    func mistakes(_ json: String, _ path: String, _ nearest: String?) throws {
        var mistakes: [TagCondition.Mistake] = []
        let read = TagCondition.read(try JSONValue(json: Data(json.utf8)), mistakes: &mistakes)
        #expect(read == nil)
        #expect(mistakes.map(\.path) == [path])
        #expect(mistakes.first?.nearest == nearest)
        #expect(mistakes.first?.allowed?.isEmpty == false)
    }

    @Test func aKeywordThatIsNearlyAFrequentOneIsAWarning() throws {
        var mistakes: [TagCondition.Mistake] = []
        #expect(TagCondition.read(["Modalty": "CT", "SeriesTime": "1", "PerformedStationAETitle": "x"], mistakes: &mistakes) != nil)
        #expect(mistakes.map(\.nearest) == ["Modality"])
        #expect(mistakes.map(\.isError) == [false])
    }

    @Test("A condition that is too large is one mistake")
    func tooLarge() throws {
        var deep: JSONValue = ["Modality": "CT"]
        for _ in 0..<200 { deep = ["not": deep] }
        for value: JSONValue in [deep, ["any": .array(Array(repeating: ["Modality": "CT"], count: 1000))]] {
            var mistakes: [TagCondition.Mistake] = []
            #expect(TagCondition.read(value, mistakes: &mistakes) == nil)
            #expect(mistakes.count == 1)
        }
    }
}

/// Random conditions on random events.
@Suite struct TagConditionPropertyTests {
    private static let tags = ["Modality", "BodyPartExamined", "SliceThickness", "Rows", "SeriesDescription"]
    private static let values: [JSONValue] = ["CT", "MR", "1", "2.5", "5\\9", "", .null, ["x"], 512]

    private static func test(_ random: inout SeededGenerator, exists: Bool) -> JSONValue {
        switch Int.random(in: 0..<(exists ? 6 : 5), using: &random) {
        case 0: ["CT", "MR", "1", 512, 2.5].randomElement(using: &random)!
        case 1: ["CT", "2.5"]
        case 2: ["min": .integer(Int64.random(in: 0...3, using: &random))]
        case 3: ["matches": ["^C", "[0-9]", "(?i)ct|x"].randomElement(using: &random)!]
        case 4: ["contains": "c", "every": .bool(random.chance(50))]
        default: ["exists": .bool(random.chance(50))]
        }
    }

    private static func condition(_ random: inout SeededGenerator, depth: Int = 0, exists: Bool = true, inScope: Bool = false) -> JSONValue
    {
        let kinds = depth > 3 ? 2 : inScope ? 6 : 9
        switch Int.random(in: 0..<kinds, using: &random) {
        case 0, 1: return .object([tags.randomElement(using: &random)!: test(&random, exists: exists)])
        case 2: return ["not": condition(&random, depth: depth + 1, exists: exists, inScope: inScope)]
        case 3, 4:
            let parts = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                condition(&random, depth: depth + 1, exists: exists, inScope: inScope)
            }
            return .object([random.chance(50) ? "any" : "all": .array(parts)])
        case 5: return ["modality": "CT", "Rows": test(&random, exists: exists)]
        case 6: return ["anySeries": condition(&random, depth: depth + 1, exists: exists, inScope: true)]
        case 7: return ["everySeries": condition(&random, depth: depth + 1, exists: exists, inScope: true)]
        default:
            return .object([random.chance(50) ? "study" : "patient": condition(&random, depth: depth + 1, exists: exists, inScope: true)])
        }
    }

    private static func series(_ random: inout SeededGenerator) -> [String: JSONValue] {
        Dictionary(
            uniqueKeysWithValues: tags.compactMap { tag in
                random.chance(70) ? (tag, values.randomElement(using: &random)!) : nil
            })
    }

    private static func truth(_ json: JSONValue, _ event: EventTags) throws -> ConditionVerdict.Truth {
        var mistakes: [TagCondition.Mistake] = []
        let condition = try #require(TagCondition.read(json, mistakes: &mistakes), "\(mistakes) \(json.text)")
        let verdict = condition.verdict(on: event)
        #expect(!verdict.reason.isEmpty)
        #expect(!condition.description.isEmpty)
        return verdict.truth
    }

    @Test(arguments: 0..<6)
    func laws(_ block: Int) throws {
        var seen: Set<ConditionVerdict.Truth> = []
        for seed in UInt64(block * 40)..<UInt64(block * 40 + 40) {
            var random = SeededGenerator(seed: seed)
            let one = Self.condition(&random)
            let other = Self.condition(&random)
            let event = study(Self.series(&random), Self.series(&random), Self.series(&random), study: Self.series(&random))
            let single = study(Self.series(&random))
            for event in [event, single] {
                let truth = try Self.truth(one, event)
                seen.insert(truth)
                #expect(try Self.truth(["not": ["not": one]], event) == truth, "\(seed)")
                #expect(try Self.truth(["all": [one]], event) == truth, "\(seed)")
                #expect(try Self.truth(["all": [one, one]], event) == truth, "\(seed)")
                #expect(try Self.truth(["any": [one, other]], event) == Self.truth(["any": [other, one]], event), "\(seed)")
                #expect(
                    try Self.truth(["not": ["all": [one, other]]], event) == Self.truth(["any": [["not": one], ["not": other]]], event),
                    "\(seed)")
            }
            // A single series: what holds for it does not hold not for it.
            let inverse = try Self.truth(["not": one], single)
            let truth = try Self.truth(one, single)
            #expect((truth == .holds) == (inverse == .fails) && (truth == .undecided) == (inverse == .undecided), "\(seed)")
            let scoped = Self.condition(&random, inScope: true)
            #expect(try Self.truth(["anySeries": scoped], event) == Self.truth(scoped, event), "\(seed)")
            #expect(
                try Self.truth(["everySeries": scoped], event) == Self.truth(["not": ["anySeries": ["not": scoped]]], event), "\(seed)")
        }
        #expect(seen.count == 3)
    }

    @Test("What is decided without a tag stays so when the tag is there")
    func knowingMoreChangesNoVerdict() throws {
        var decided = 0
        for seed in UInt64(0)..<200 {
            var random = SeededGenerator(seed: seed)
            let condition = Self.condition(&random, exists: false)
            let full = Self.series(&random)
            let other = Self.series(&random)
            var lacking = full
            guard let gone = full.keys.sorted().randomElement(using: &random) else { continue }
            lacking[gone] = nil
            let before = try Self.truth(condition, study(lacking, other))
            guard before != .undecided else { continue }
            decided += 1
            #expect(try Self.truth(condition, study(full, other)) == before, "\(seed): \(condition.text)")
        }
        #expect(decided > 25)
    }

    @Test("Whatever JSON stands in 'when' is read or refused with a place")
    func fuzz() throws {
        let keys =
            Self.tags + [
                "any", "all", "not", "anySeries", "everySeries", "study", "patient", "instances", "seriesCount", "modality", "min", "x",
            ]
        func value(_ random: inout SeededGenerator, depth: Int) -> JSONValue {
            switch Int.random(in: 0..<(depth > 4 ? 5 : 9), using: &random) {
            case 0: return .null
            case 1: return .bool(true)
            case 2: return .integer(Int64.random(in: -1...3, using: &random))
            case 3: return .number(.random(in: -1...1, using: &random))
            case 4: return ["CT", "", "(", "^C"].randomElement(using: &random)!
            case 5, 6: return .array((0..<Int.random(in: 0...2, using: &random)).map { _ in value(&random, depth: depth + 1) })
            default:
                return .object(
                    Dictionary(
                        (0..<Int.random(in: 0...2, using: &random)).map { _ in
                            (keys.randomElement(using: &random)!, value(&random, depth: depth + 1))
                        }
                    ) { first, _ in first })
            }
        }
        var read = 0
        for seed in UInt64(0)..<3000 {
            var random = SeededGenerator(seed: seed)
            var mistakes: [TagCondition.Mistake] = []
            let json = value(&random, depth: 0)
            let condition = TagCondition.read(json, mistakes: &mistakes)
            #expect((condition == nil) == mistakes.contains(where: \.isError), "\(json.text)")
            #expect(mistakes.allSatisfy { $0.path.hasPrefix("when") && !$0.message.isEmpty })
            if let condition {
                read += 1
                _ = condition.verdict(on: study(Self.series(&random)))
            }
        }
        #expect(read > 20)
    }
}
