import Foundation
import Stack

/// What services have stored in Orthanc: the series of the sample studies that the demo has not sent.
struct DerivedObjects: Sendable, CustomStringConvertible {
    struct Study: Sendable {
        let title: String
        /// Orthanc's page of it.
        let page: String
        /// Objects by DICOM modality.
        var objects: [String: Int] = [:]
    }

    private let studies: [Study]

    private struct StudyAnswer: Decodable {
        let series: [String]

        private enum CodingKeys: String, CodingKey { case series = "Series" }
    }

    private struct SeriesAnswer: Decodable {
        let tags: [String: String]
        let instances: [String]

        private enum CodingKeys: String, CodingKey {
            case tags = "MainDicomTags"
            case instances = "Instances"
        }
    }

    static func read(from endpoints: Endpoints, sample: SampleStudies) async throws -> DerivedObjects {
        var studies: [Study] = []
        for known in sample.patients.flatMap(\.studies) {
            var study = Study(title: known.title, page: "\(endpoints.orthanc)/app/explorer.html#study?uuid=\(known.id)")
            // CLEAN_ORTHANC may have removed it.
            let answer = try await get("/studies/\(known.id)", as: StudyAnswer.self, from: endpoints)
            for id in Set(answer?.series ?? []).subtracting(known.series) {
                guard let series = try await get("/series/\(id)", as: SeriesAnswer.self, from: endpoints) else { continue }
                study.objects[series.tags["Modality"] ?? "?", default: 0] += series.instances.count
            }
            studies.append(study)
        }
        return DerivedObjects(studies: studies)
    }

    /// - Returns: nil for what Orthanc does not have.
    private static func get<Value: Decodable>(_ path: String, as type: Value.Type, from endpoints: Endpoints) async throws -> Value? {
        guard let url = URL(string: endpoints.orthanc + path) else {
            throw StackError(.badSetting, "\(endpoints.orthanc + path) is no address.")
        }
        let answer = try await LoopbackHTTP.request(
            "GET", url, credentials: .basic(user: endpoints.orthancUser, password: endpoints.orthancPassword), limit: .seconds(10))
        if answer.status == 404 { return nil }
        guard answer.status == 200 else { throw StackError(.refused, "Orthanc answers \(path) with status \(answer.status).") }
        return try JSONDecoder().decode(Value.self, from: answer.body)
    }

    var description: String {
        if studies.allSatisfy(\.objects.isEmpty) { return "No service has stored anything in Orthanc." }
        var table = TextTable(["STUDY", "STORED", "LOOK AT IT"])
        for study in studies {
            let objects = study.objects.sorted { $0.key < $1.key }.map { "\($1) \($0)" }.joined(separator: ", ")
            table.add([study.title, objects.isEmpty ? "nothing" : objects, study.page])
        }
        return "What services have stored in Orthanc (user and password: orthancUser, orthancPassword in endpoints.json)\n\(table)"
    }
}
