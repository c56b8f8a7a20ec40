import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Ingest
@testable import Orthanc

private func fixture(_ name: String) throws -> JSONValue {
    let url = try #require(Bundle.module.url(forResource: name, withExtension: "json", subdirectory: "Fixtures"))
    return try JSONValue(json: Data(contentsOf: url))
}

struct TagDocumentTests {
    @Test(arguments: ["", "sequence-"])
    func simplifiesAsOrthancDoes(kind: String) throws {
        let document = TagDocument(try fixture("\(kind)tags"))
        #expect(.object(document.simplified(limit: .max)) == (try fixture("\(kind)simplified-tags")))
    }

    @Test func findsThePrivateBlock() throws {
        #expect(TagDocument(try fixture("tags")).hasOwnBlock)
        #expect(!TagDocument(try fixture("sequence-tags")).hasOwnBlock)
        let foreign: JSONValue = [
            "0405,1005": ["Name": "Unknown Tag & Data", "PrivateCreator": "ACME", "Type": "String", "Value": "dcm-processor"]
        ]
        #expect(!TagDocument(foreign).hasOwnBlock)
    }

    @Test func longValuesStayBehind() {
        let document = TagDocument([
            "0008,0060": ["Name": "Modality", "Type": "String", "Value": "CT"],
            "0009,1001": ["Name": "Long", "Type": "String", "Value": .string(String(repeating: "x", count: 101))],
            "5200,9230": [
                "Name": "PerFrameFunctionalGroupsSequence", "Type": "Sequence",
                "Value": .array((0..<50).map { ["0020,0013": ["Name": "InstanceNumber", "Type": "String", "Value": .string("\($0)")]] }),
            ],
        ])
        #expect(document.simplified(limit: 100) == ["Modality": "CT"])
        #expect(document.simplified().count == 3)
    }
}

private func series(_ number: Int, instances: Range<Int>, lastUpdate: String = "20260101T000000") -> OrthancSeries {
    OrthancSeries(
        id: orthancID(number), isStable: true, lastUpdate: lastUpdate, tags: [:], study: orthancID(2), instances: instances.map(orthancID))
}

private func snapshot(
    _ level: ResourceLevel, _ studies: [Int: [OrthancSeries]], id: Int = 1, lastUpdate: String = "20260101T000000"
)
    -> ResourceSnapshot
{
    ResourceSnapshot(
        server: "orthanc", level: level, id: orthancID(id), isStable: true, lastUpdate: lastUpdate, tags: ["PatientID": "P"],
        patient: orthancID(9),
        studies: studies.sorted { $0.key < $1.key }.map {
            ResourceSnapshot.Study(id: orthancID($0.key), tags: ["StudyID": "S"], series: $0.value)
        }
    )
}

private func sample(_ series: OrthancSeries, refusal: Reason? = nil) -> SeriesSample {
    SeriesSample(
        series: series, tags: ["Modality": "CT", "SeriesInstanceUID": "1.2"], fileMeta: ["TransferSyntaxUID": "1.2.840.10008.1.2.1"],
        refusal: refusal)
}

struct EventHeadersTests {
    @Test func aSeriesIsFlat() {
        let only = series(10, instances: 100..<103)
        let headers = EventHeaders.make(snapshot(.series, [2: [only]], id: 10), accepted: [only.id: sample(only)])
        #expect(
            headers == [
                "Modality": "CT", "SeriesInstanceUID": "1.2", "patientId": .string(orthancID(9).rawValue),
                "studyId": .string(orthancID(2).rawValue), "seriesId": .string(orthancID(10).rawValue),
            ]
        )
    }

    @Test func aPatientIsATreeOfItsAcceptedSeries() {
        let (first, second, other) = (series(10, instances: 100..<103), series(11, instances: 200..<203), series(12, instances: 300..<301))
        let patient = snapshot(.patient, [2: [first, second], 3: [other]])
        let headers = EventHeaders.make(patient, accepted: [second.id: sample(second)])
        #expect(
            headers == [
                "id": .string(orthancID(1).rawValue),
                "tags": ["PatientID": "P"],
                "studyIds": [.string(orthancID(2).rawValue)],
                "seriesIds": [.string(orthancID(11).rawValue)],
                "studies": [
                    [
                        "id": .string(orthancID(2).rawValue), "tags": ["StudyID": "S"],
                        "series": [
                            [
                                "id": .string(orthancID(11).rawValue),
                                "tags": ["Modality": "CT", "SeriesInstanceUID": "1.2", "TransferSyntaxUID": "1.2.840.10008.1.2.1"],
                            ]
                        ],
                    ]
                ],
            ]
        )
    }
}

struct EventMakerTests {
    private let now = Date(timeIntervalSince1970: 1_800_000_000)

    @Test func refusedSeriesAreNamedWithTheirReason() {
        let (good, bad) = (series(10, instances: 100..<103), series(11, instances: 200..<201))
        let reason = Reason("modality", "No.")
        let study = snapshot(.study, [2: [good, bad]], id: 2)
        let event = EventMaker.event(study, [sample(good), sample(bad, refusal: reason)], IngestFilter(), follows: nil, at: now)
        #expect(event.filtered == nil && event.follows == nil && event.snapshot != study.hash)
        #expect(event.series.map(\.id) == [orthancID(10).rawValue] && event.series.first?.instances == 3)
        #expect(event.refusedSeries == [orthancID(11).rawValue: reason])
    }

    @Test func anEventWithoutAnAcceptedSeriesIsFiltered() {
        let (one, two) = (series(10, instances: 100..<103), series(11, instances: 200..<201))
        let study = snapshot(.study, [2: [one, two]], id: 2)
        let same = EventMaker.event(
            study, [sample(one, refusal: IngestFilter.ownResult), sample(two, refusal: IngestFilter.ownResult)], IngestFilter(),
            follows: nil, at: now)
        #expect(same.filtered == IngestFilter.ownResult && same.series.isEmpty)
        let mixed = EventMaker.event(
            study, [sample(one, refusal: IngestFilter.ownResult), sample(two, refusal: Reason("junk", "x"))], IngestFilter(), follows: nil,
            at: now)
        #expect(mixed.filtered?.code == "no-accepted-series" && mixed.filtered?.text.contains("junk, own-result") == true)
    }

    @Test func hugeHeadersAreCutDown() {
        let only = series(10, instances: 100..<103)
        var big = sample(only)
        for index in 0..<700 { big.tags["Tag\(index)"] = .string(String(repeating: "x", count: 30_000)) }
        let event = EventMaker.event(snapshot(.study, [2: [only]], id: 2), [big], IngestFilter(), follows: nil, at: now)
        #expect(event.headers.encoded().count < EventMaker.headerLimit)
        #expect(event.headers["studies"]?.array?[0]["series"]?.array?[0]["tags"]?["Modality"] == "CT")
    }
}

struct ResourceSnapshotTests {
    private let filter = IngestFilter()

    @Test func theHashNamesTheSetOfInstances() {
        let one = snapshot(.study, [2: [series(10, instances: 100..<103), series(11, instances: 200..<203)]], id: 2)
        var turned = one
        turned.studies[0].series.reverse()
        turned.studies[0].series[0].instances.reverse()
        #expect(turned.hash == one.hash && one.hash.count == 64)
        let grown = snapshot(.study, [2: [series(10, instances: 100..<104), series(11, instances: 200..<203)]], id: 2)
        let later = snapshot(
            .study, [2: [series(10, instances: 100..<103), series(11, instances: 200..<203)]], id: 2, lastUpdate: "20260101T000001")
        var elsewhere = one
        elsewhere.server = "other"
        #expect(Set([one.hash, grown.hash, later.hash, elsewhere.hash]).count == 4)
    }

    @Test func onlyNewAndChangedSeriesMakeTheNextEvent() {
        let before = snapshot(.study, [2: [series(10, instances: 100..<103), series(11, instances: 200..<203)]], id: 2)
        let record = before.record(.event, follows: nil, [], IngestFilter(), at: Date())
        #expect(before.changedSeries(since: nil, filter).count == 2)
        #expect(before.changedSeries(since: record, filter).isEmpty && before.isSameState(as: record, filter))
        let grown = snapshot(
            .study,
            [2: [series(10, instances: 100..<103), series(11, instances: 200..<204), series(12, instances: 300..<301)]], id: 2,
            lastUpdate: "20260101T010000")
        #expect(!grown.isSameState(as: record, filter))
        #expect(grown.changedSeries(since: record, filter).map(\.id) == [orthancID(11), orthancID(12)])
    }

    @Test func ofABaselineOnlyWhatWasUpdatedAfterwardsIsNew() {
        let record = IngestRecord(
            server: "orthanc", level: .study, resource: orthancID(2).rawValue, snapshot: "", lastUpdate: "20260101T000000",
            origin: .baseline,
            recordedAt: Date())
        let same = snapshot(.study, [2: [series(10, instances: 100..<103)]], id: 2)
        #expect(same.isSameState(as: record, filter) && same.changedSeries(since: record, filter).isEmpty)
        let grown = snapshot(
            .study, [2: [series(10, instances: 100..<103), series(11, instances: 200..<203, lastUpdate: "20260101T000500")]], id: 2,
            lastUpdate: "20260101T000500")
        #expect(!grown.isSameState(as: record, filter) && grown.changedSeries(since: record, filter).map(\.id) == [orthancID(11)])
    }
}

struct OrthancTimeTests {
    @Test func readsAndWritesOrthancsForm() throws {
        let date = try #require(OrthancTime.date("20261122T131522"))
        #expect(date == Date(timeIntervalSince1970: 1_795_353_322))
        #expect(OrthancTime.text(date) == "20261122T131522")
        #expect(OrthancTime.date("20261122T131522.123456") == date)
        #expect(OrthancTime.date("yesterday") == nil && OrthancTime.date("") == nil)
    }
}
