import Foundation
import JobStore
import Jobs
import Testing

@testable import Dashboard

struct DrawingTests {
    private func edge(_ parent: Int, _ child: Int, _ origin: Dependency.Origin = .declared) -> LedgerEdge {
        LedgerEdge(child: child, parent: parent, condition: .succeeded, origin: origin, satisfiedBy: nil)
    }

    @Test("Columns follow stages and depth; edges that others imply are not drawn")
    func layout() {
        let layout = GraphLayout(
            jobs: [(0, .export), (1, .pre), (2, .services), (3, .services), (4, .post)],
            edges: [
                edge(0, 1, .stage), edge(0, 2, .stage), edge(1, 2, .stage), edge(0, 3, .stage), edge(1, 3, .stage), edge(2, 3),
                edge(0, 4, .stage), edge(1, 4, .stage), edge(2, 4, .stage), edge(3, 4, .stage),
            ])
        let columns = layout.nodes.sorted { $0.job < $1.job }.map(\.origin.x)
        #expect(columns == columns.sorted() && Set(columns).count == 5)
        #expect(layout.edges.map { [$0.parent, $0.child] } == [[0, 1], [1, 2], [2, 3], [3, 4]])
        #expect(layout.headings.map(\.stage) == [.export, .pre, .services, .post])
    }

    @Test("No two nodes overlap, and an edge that passes a column goes between its nodes")
    func lanes() throws {
        let layout = GraphLayout(
            jobs: (0..<7).map { ($0, .services) },
            edges: [edge(0, 1), edge(0, 2), edge(0, 3), edge(1, 4), edge(2, 4), edge(0, 5), edge(4, 6), edge(5, 6), edge(3, 6)])
        for (index, node) in layout.nodes.enumerated() {
            for other in layout.nodes[(index + 1)...] where node.origin.x == other.origin.x {
                #expect(abs(node.origin.y - other.origin.y) >= GraphLayout.nodeHeight)
            }
            #expect(node.origin.y >= 0 && node.origin.y + GraphLayout.nodeHeight <= layout.height)
            #expect(node.origin.x + layout.nodeWidth <= layout.width)
        }
        let long = try #require(layout.edges.first { $0.parent == 3 && $0.child == 6 })
        #expect(long.points.count == 4)
        let lane = long.points[1]
        for node in layout.nodes where node.origin.x == lane.x {
            #expect(lane.y < node.origin.y || lane.y > node.origin.y + GraphLayout.nodeHeight)
        }
    }

    @Test("A chain of eight jobs fits the page, each with room for its name", arguments: 1...8)
    func fits(count: Int) {
        let layout = GraphLayout(jobs: (0..<count).map { ($0, .services) }, edges: (0..<count).dropFirst().map { edge($0 - 1, $0) })
        #expect(layout.width <= 1200 && layout.nodeWidth >= 128)
        let places = layout.nodes.map(\.origin.x).sorted()
        for (left, right) in zip(places, places.dropFirst()) { #expect(right - left >= layout.nodeWidth + 24) }
        #expect(RunGraph.shortened("dicomAnonymizer", layout.nodeWidth) == (count < 8 ? "dicomAnonymizer" : "dicomAnonymiz…"))
    }

    @Test("Many services that nothing hangs on stand beside each other, no more than five below each other")
    func wide() {
        let layout = GraphLayout(
            jobs: [(0, .pre)] + (1...12).map { ($0, .services) } + [(13, .post)], edges: [edge(1, 2), edge(2, 3)], tallest: 5)
        let columns = Dictionary(grouping: layout.nodes, by: \.origin.x).mapValues { $0.map(\.job) }
        #expect(columns.values.allSatisfy { $0.count <= 5 } && columns.values.joined().sorted() == Array(0...13))
        #expect(columns.min { $0.key < $1.key }?.value == [0] && columns.max { $0.key < $1.key }?.value == [13])
        let places = Dictionary(uniqueKeysWithValues: layout.nodes.map { ($0.job, $0.origin.x) })
        #expect(places[1]! < places[2]! && places[2]! < places[3]!)
    }

    @Test("Names below bars never touch: each is in the first row that is free there")
    func labels() {
        let names = [("export", 0.0), ("dicomAnonymizer", 0.02), ("temp", 0.03), ("preview", 0.9), ("storageManager", 0.99)]
        let labels = WorkerLanes.labels(names.map { (name: $0.0, start: $0.1) })
        #expect(labels.map(\.row) == [0, 1, 2, 0, 1])
        let crowd = WorkerLanes.labels((0..<8).map { (name: "one-of-\($0)", start: 0.5) })
        #expect(crowd.map(\.row) == [0, 1, 2, 3, 4, 5, nil, nil])
        #expect(labels.allSatisfy { $0.place >= 0 && $0.place < 0.95 } && labels[0].place == 0 && labels[1].place == 0.02)
    }

    @Test(
        "A timeline's marks are round and leave room for their words",
        arguments: [
            (0.5, [0, 0.2, 0.4]), (42, [0, 15, 30]), (151, [0, 60, 120]), (7200, [0, 3600]), (400_000, [0, 172_800, 345_600]),
        ] as [(Double, [Double])])
    func ticks(length: Double, expected: [Double]) {
        let ticks = Timeline.ticks(length)
        #expect(ticks.count == expected.count && zip(ticks, expected).allSatisfy { abs($0 - $1) < 0.001 }, "\(ticks)")
    }

    @Test("Plurals", arguments: [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1200, "1\u{202F}200 jobs")])
    func plurals(number: Int, text: String) {
        #expect(Display.count(number, "job") == text)
        #expect(Display.count(number, "series", "series").hasSuffix(" series"))
    }

    @Test("No jobs, no drawing")
    func nothing() {
        #expect(GraphLayout(jobs: [], edges: []).nodes.isEmpty)
    }

    @Test(
        "Durations",
        arguments: [
            (-3.0, "0 ms"), (0.012, "12 ms"), (0.4, "0.4 s"), (9.94, "9.9 s"), (12.2, "12 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"),
            (7800, "2 h 10 min"), (273_600, "3 d 4 h"),
        ])
    func durations(seconds: Double, text: String) {
        #expect(Display.duration(seconds) == text)
    }

    @Test("Bytes and numbers")
    func numbers() {
        #expect(Display.bytes(999) == "999 B")
        #expect(Display.bytes(2048) == "2.0 kB")
        #expect(Display.bytes(231_000_000) == "231 MB")
        #expect(Display.number(1_234_567) == "1\u{202F}234\u{202F}567")
        #expect(Display.number(12) == "12")
    }

    @Test(
        "A character that is only half there waits",
        arguments: [
            ([0x61], 0), ([0x61, 0xc3], 1), ([0xe2, 0x82], 2), ([0xe2, 0x82, 0xac], 0), ([0xf0, 0x9f, 0x98], 3), ([], 0),
            ([0x80, 0x80, 0x80, 0x80], 0),
        ] as [([UInt8], Int)])
    func incomplete(bytes: [UInt8], count: Int) {
        #expect(JobLog.incompleteTail(bytes) == count)
    }

    @Test("Masks what identifies a person and nothing else")
    func mask() {
        let masked = HeaderMask.masked([
            "PatientName": "DOE^JANE", "PatientSex": "F", "patientId": "orthanc-id", "id": "orthanc-id", "ProtocolName": "Head",
            "ReferringPhysicianName": "WHO", "0010,0020": "4711", "PatientComments": "",
            "studies": [["tags": ["AccessionNumber": "1", "Modality": "CT"]]],
        ])
        #expect(
            masked == [
                "PatientName": "hidden", "PatientSex": "F", "patientId": "orthanc-id", "id": "orthanc-id", "ProtocolName": "Head",
                "ReferringPhysicianName": "hidden", "0010,0020": "hidden", "PatientComments": "",
                "studies": [["tags": ["AccessionNumber": "hidden", "Modality": "CT"]]],
            ])
    }

    @Test(
        "Hidden: who it is, in every spelling, and what no keyword is known for",
        arguments: [
            "PatientName", "patientName", "patient_name", "OtherPatientIDs", "patient-id", "PerformingPhysicianName", "OperatorsName",
            "ContentCreatorName", "VerifyingObserverName", "HumanPerformerName", "ReviewerName", "ClinicalTrialSiteName",
            "NamesOfIntendedRecipientsOfResults", "NameOfPhysiciansReadingStudy", "MedicalAlerts", "Allergies", "BranchOfService",
            "ClinicalTrialSubjectID", "AdmittingDiagnosesDescription", "TextValue", "ImageComments", "InstitutionName", "0010,0010",
            "0009,1001", "(0011,1010)", "00091001", "Unknown Tag & Data", "UnknownTag", "PrivateCreator", "dob",
            "date_of_birth", "mrn", "firstName", "last-name", "Surname", "(0010, 0010)", "0010|0010",
        ])
    func identifying(key: String) {
        #expect(HeaderMask.identifies(key))
    }

    @Test(
        "Shown: devices, protocols, what every image of a kind has, and what jobs call their own",
        arguments: [
            "ManufacturerModelName", "ProtocolName", "StationName", "SequenceName", "PulseSequenceName", "ReceiveCoilName", "PatientSex",
            "PatientAge", "Modality", "SeriesDescription", "SliceThickness", "patientId", "id", "name", "fileName", "output", "volumes",
            "dcmpath", "abcd,efgh", "0d3c",
        ])
    func harmless(key: String) {
        #expect(!HeaderMask.identifies(key))
    }

    @Test("A job's name hides nothing; what it was handed is looked at")
    func maskByJob() {
        #expect(
            HeaderMask.maskedByJob(["PatientReport": ["output": "a", "PatientName": "DOE"], "x": 1])
                == ["PatientReport": ["output": "a", "PatientName": "hidden"], "x": 1])
    }

    @Test(
        "Query strings and forms",
        arguments: [
            ("a=1&b=x%20y&a=2", ["a": "1", "b": "x y"]), ("q=a+b%2B", ["q": "a b+"]), ("", [:]), ("x", ["x": ""]), ("x=%ZZ", [:]),
        ])
    func forms(text: String, fields: [String: String]) {
        #expect(FormDecoding.fields(text) == fields)
    }
}
