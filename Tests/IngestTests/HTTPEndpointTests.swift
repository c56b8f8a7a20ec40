import Bootstrap
import Configuration
import Foundation
import Glibc
import Jobs
import Orthanc
import Stack
import Testing

@testable import Ingest

private func settings(_ values: [String: String]) -> Settings {
    Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: values)))
}

@Suite("Endpoint of ingest", .timeLimit(.minutes(2)))
struct HTTPEndpointTests {
    private static let id = OrthancID(rawValue: "0123abcd-0123abcd-0123abcd-0123abcd-0123abcd")!

    /// What upstream's hook of 2021 posts: the flat header of the first instance, and Orthanc's ids.
    private static func flat(_ patientName: String = "Doe^Jane") -> String {
        """
        {"AccessionNumber":"4711","ImageOrientationPatient":"1\\\\0\\\\0\\\\0\\\\1\\\\0","Modality":"CT","PatientID":"P-77","PatientName":"\(patientName)",
        "ReferencedStudySequence":[{"ReferencedSOPInstanceUID":"1.2.3"}],"SeriesNumber":"3","patientId":"\(id)x","studyId":"nothing",
        "seriesId":"\(id)","dcmpath":"dicom/\(id)"}
        """
    }

    /// What its hook of 2023 posts: the tree of a patient. Lua writes an empty table as null or as a list.
    private static let tree = """
        {"dcmpath":"dicom/\(id)","id":"\(id)","seriesIds":["\(id)"],"studies":[{"id":"\(id)","series":[{"id":"\(id)",
        "tags":{"PatientName":"Doe^Jane","SeriesNumber":3,"PixelSpacing":"0.5\\\\0.5","Empty":null}}],"tags":{"StudyDate":"20260131"}}],
        "studyIds":["\(id)"],"tags":[]}
        """

    @Test("Upstream's payloads of both generations: the id is taken from them, and 202 is answered once the event is safe")
    func upstreamPayloads() async throws {
        let orthanc = ScriptedResources()
        try await RunningEndpoint.serving(orthanc) { endpoint in
            let series = try await endpoint.post("/stable-series", Self.flat(), headers: ["Content-Type": "application/json"])
            #expect(series.status == 202)
            #expect(try series.member("status") == "accepted")
            #expect(try series.member("outcome") == "dispatched")
            let patient = try await endpoint.post("/stable-patient", Self.tree)
            #expect(patient.status == 202)
            #expect(orthanc.requests.map(\.level) == [.series, .patient])
            #expect(orthanc.requests.allSatisfy { $0.id == Self.id && $0.replay == nil && !$0.isBulk })

            orthanc.answerNext(.known(snapshot: "1"), .filtered(Reason("modality", "It is OT.")))
            let known = try await endpoint.post("/stable-series", Self.flat())
            #expect(known.status == 202)
            #expect(try known.member("outcome") == "known")
            let filtered = try await endpoint.post("/stable-series", Self.flat())
            #expect(filtered.status == 202)
            #expect(try filtered.member("reason")?.object?["code"] == "modality")

            orthanc.answerNext(.notFound, .unstable, .failed(Reason("broker-timeout", "The broker does not take events.")))
            let missing = try await endpoint.post("/stable-series", Self.flat())
            #expect(missing.status == 404)
            for code in ["unstable", "broker-timeout"] {
                let later = try await endpoint.post("/stable-series", Self.flat())
                #expect(later.status == 503)
                #expect(Int(later.headers["retry-after"] ?? "") ?? 0 > 0)
                #expect(try later.member("code") == .string(code))
            }
        }
    }

    @Test(
        "A payload in any alphabet, and one that is not even text, has its id read",
        arguments: [
            Data(Self.flat("D\u{f6}e^J\u{e4}ne").utf8),
            // As a hook writes them that takes the file's bytes for text: Latin-1, ISO 2022 IR 87, EUC-KR, lone surrogates, NULs.
            Self.bytes(Self.flat("<>"), replacing: [0x44, 0xf6, 0x65, 0xff, 0xfe]),
            Self.bytes(Self.flat("<>"), replacing: [0xbb, 0xb3, 0xc5, 0xc4, 0xed, 0xa0, 0x80]),
            Data(Self.flat("\\u001b$B;3ED\\u001b(B^\\u0000").utf8),
            Data([0xef, 0xbb, 0xbf]) + Data(Self.flat("\u{5c71}\u{7530}^\u{592a}\u{90ce}").utf8),
        ])
    func encodings(body: Data) async throws {
        let orthanc = ScriptedResources()
        try await RunningEndpoint.serving(orthanc) { endpoint in
            let answer = try await endpoint.send("POST", "/stable-series", body)
            #expect(answer.status == 202)
            #expect(orthanc.requests.map(\.id) == [Self.id])
        }
    }

    private static func bytes(_ text: String, replacing bytes: [UInt8]) -> Data {
        var data = Data(text.utf8)
        if let range = data.range(of: Data("<>".utf8)) { data.replaceSubrange(range, with: bytes) }
        return data
    }

    @Test("What is refused says what is wrong with it and repeats nothing of it; garbage harms nobody")
    func refusals() async throws {
        let orthanc = ScriptedResources()
        try await RunningEndpoint.serving(orthanc) { endpoint in
            let bodies: [(String, String)] = [
                ("", "not a JSON object"), ("Doe^Jane", "not a JSON object"), ("[\"Doe^Jane\"]", "not a JSON object"),
                ("{\"PatientName\": \"Doe^Jane\"}", "'seriesId' is missing"), ("{\"seriesId\": \"Doe^Jane\"}", "a text of 8 bytes"),
                ("{\"seriesId\": 17, \"PatientName\": \"Doe^Jane\"}", "a number"), ("{\"seriesId\": [\"Doe^Jane\"]}", "a list"),
                ("{\"seriesId\": {\"Doe^Jane\": 1}}", "an object"), ("{\"seriesId\": null}", "null"),
                ("{\"seriesId\": \"../../Doe^Jane\"}", "five groups of eight"),
                (String(repeating: "[", count: 100_000), "not a JSON object"),
                ("{\"seriesId\": \"\(Self.id)\", \"server\": \"Doe^Jane\"}", "it has orthanc"),
            ]
            for (body, hint) in bodies {
                let answer = try await endpoint.post("/stable-series", body)
                #expect(answer.status == 400)
                #expect(try answer.member("detail")?.string?.contains(hint) == true, "\(answer.text)")
                #expect(!answer.text.contains("Doe"))
            }
            var generator = SystemRandomNumberGenerator()
            for _ in 0..<50 {
                let garbage = Data((0..<Int.random(in: 1...300)).map { _ in UInt8.random(in: 0...255, using: &generator) })
                let answer = try await endpoint.send("POST", "/stable-patient", garbage)
                #expect(answer.status == 400)
            }
            let nowhere = try await endpoint.post("/Doe%5EJane?PatientName=Doe", "{}")
            #expect(nowhere.status == 404)
            #expect(!nowhere.text.contains("Doe"))
            #expect(orthanc.requests.isEmpty)
        }
    }

    @Test("A body beyond the limit is refused, with and without its length said before")
    func bodyLimit() async throws {
        let orthanc = ScriptedResources()
        try await RunningEndpoint.serving(orthanc, configure: { $0.bodyLimit = 10_000 }) { endpoint in
            let answer = try await endpoint.post("/stable-series", String(repeating: " ", count: 10_001) + Self.flat())
            #expect(answer.status == 413)
            let fits = try await endpoint.post("/stable-series", String(repeating: " ", count: 9_000) + Self.flat())
            #expect(fits.status == 202)
            let chunked = try await endpoint.raw(
                "POST /wake HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4e20\r\n"
                    + String(repeating: " ", count: 20_000) + "\r\n0\r\n\r\n")
            #expect(chunked.hasPrefix("HTTP/1.1 413"))
        }
    }

    @Test("The token is asked for in a header, and never taken from the address")
    func token() async throws {
        let orthanc = ScriptedResources()
        let token = "secret-of-forty-characters-0123456789abc"
        try await RunningEndpoint.serving(orthanc, token: token) { endpoint in
            let refused: [(String, [String: String])] = [
                ("/wake", [:]), ("/wake?token=\(token)", [:]), ("/wake", ["X-DCM-Token": "secret"]),
                ("/wake", ["X-DCM-Token": token + "0"]),
                ("/submit", ["Authorization": "Bearer wrong"]), ("/wake", ["Authorization": "Basic \(token)"]), ("/nowhere", [:]),
            ]
            for (path, headers) in refused {
                let answer = try await endpoint.post(path, "{}", headers: headers)
                #expect(answer.status == 401)
            }
            #expect(orthanc.wakes == 0)
            for headers in [["X-DCM-Token": token], ["Authorization": "Bearer \(token)"], ["Authorization": "bearer \(token)"]] {
                let answer = try await endpoint.post("/wake", "", headers: headers)
                #expect(answer.status == 202)
            }
            #expect(orthanc.wakes == 3)
            let health = try await endpoint.get("/healthz")
            #expect(health.status == 200)
            let readiness = try await endpoint.get("/readyz")
            #expect(readiness.status == 200)
        }
    }

    @Test("Without a token hooks may ring from anywhere, and only programs of this machine may submit")
    func withoutToken() async throws {
        let orthanc = ScriptedResources()
        try await RunningEndpoint.serving(orthanc) { endpoint in
            let order = "{\"id\": \"\(Self.id)\", \"level\": \"series\", \"replay\": \"once-more\", \"bulk\": true}"
            let own = try await endpoint.post("/submit", order)
            #expect(own.status == 202)
            #expect(
                orthanc.requests == [ScriptedResources.Request(level: .series, id: Self.id, replay: "once-more", isBulk: true)])
            // A page in a browser, one of them with a name that has been made to mean this machine.
            let page = try await endpoint.post("/wake", "{}", headers: ["Origin": "http://127.0.0.1:\(endpoint.port)"])
            #expect(page.status == 403)
            let rebound = try await endpoint.raw("GET /resources HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            #expect(rebound.hasPrefix("HTTP/1.1 403"))
            let hook = try await endpoint.raw("POST /wake HTTP/1.1\r\nHost: ingest\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            #expect(hook.hasPrefix("HTTP/1.1 202"))
            // The router takes more than one spelling of an address.
            for address in ["POST /submit", "POST //submit", "POST /submit/", "GET //resources/"] {
                let disguised = try await endpoint.raw(
                    "\(address) HTTP/1.1\r\nHost: evil.example\r\nContent-Length: \(order.utf8.count)\r\nConnection: close\r\n\r\n\(order)")
                #expect(disguised.hasPrefix("HTTP/1.1 403"), "\(address)")
            }
            #expect(orthanc.requests.count == 1)
            for (body, hint) in [
                ("{\"id\": \"\(Self.id)\", \"level\": \"Doe\"}", "series, study or patient"),
                ("{\"id\": \"\(Self.id)\", \"bulk\": 1}", "'bulk'"),
            ] {
                let answer = try await endpoint.post("/submit", body)
                #expect(answer.status == 400)
                #expect(answer.text.contains(hint))
            }
        }
    }

    @Test("The doorbell rings at the server that is named, or at all; what is not known is refused")
    func doorbell() async throws {
        let first = ScriptedResources("first")
        let second = ScriptedResources("second")
        try await RunningEndpoint.serving(first, second) { endpoint in
            for (body, status) in [("", 202), ("{}", 202), ("{\"server\": \"second\"}", 202), ("{\"server\": \"third\"}", 400), ("x", 400)]
            {
                let answer = try await endpoint.post("/wake", body)
                #expect(answer.status == status)
            }
            #expect(first.wakes == 2)
            #expect(second.wakes == 3)
            second.stopFollowing()
            let readiness = try await endpoint.get("/readyz")
            #expect(readiness.status == 503)
            #expect(try readiness.member("servers")?.array?.map { $0.object?["following"] } == [true, false])
        }
    }

    @Test("An id without a server's name is looked for on all of them")
    func severalServers() async throws {
        let first = ScriptedResources("first", answering: .notFound, pages: [[Self.id], []])
        let second = ScriptedResources("second", pages: [[Self.id, Self.id]])
        try await RunningEndpoint.serving(first, second) { endpoint in
            let answer = try await endpoint.post("/stable-series", Self.flat())
            #expect(try answer.member("server") == "second")
            // It may be on the one that is away.
            first.answerNext(.failed(Reason("orthanc-unreachable", "away")))
            second.answerNext(.notFound)
            let unsure = try await endpoint.post("/stable-series", Self.flat())
            #expect(unsure.status == 503)
            let named = try await endpoint.post("/stable-series?server=first", Self.flat())
            #expect(named.status == 404)

            var places: [String] = []
            var counts: [Int] = []
            var next: JSONValue? = "0.0"
            while let place = next?.string {
                let page = try await endpoint.get("/resources?level=study&since=2026-01-31T00:00:00Z&after=\(place)")
                #expect(page.status == 200)
                places.append(place)
                counts.append(try page.member("resources")?.array?.count ?? -1)
                next = try page.member("next")
            }
            #expect(places == ["0.0", "0.1", "1.0"])
            #expect(counts == [1, 0, 2])
            for query in ["after=2.0", "after=x", "after=-1.0", "since=yesterday", "level=scan", "server=third"] {
                let refused = try await endpoint.get("/resources?\(query)")
                #expect(refused.status == 400)
            }
        }
    }

    @Test("A server that hangs holds up no other")
    func oneOfSeveralHangs() async throws {
        let stuck = ScriptedResources("stuck", after: .seconds(3600))
        let other = ScriptedResources("other")
        try await RunningEndpoint.serving(stuck, other, configure: { $0.requestLimit = .milliseconds(300) }) { endpoint in
            let answer = try await endpoint.post("/submit", "{\"id\": \"\(Self.id)\"}")
            #expect(answer.status == 202)
            #expect(try answer.member("server") == "other")
            // It might be on the one that did not answer.
            other.answerNext(.notFound)
            let unsure = try await endpoint.post("/submit", "{\"id\": \"\(Self.id)\"}")
            #expect(unsure.status == 503)
        }
    }

    @Test("A hook is let go before its event is made, since Orthanc may wait for it; the event is made all the same")
    func slowEvent() async throws {
        let orthanc = ScriptedResources(after: .milliseconds(400))
        try await RunningEndpoint.serving(orthanc, configure: { $0.hookLimit = .milliseconds(50) }) { endpoint in
            let answer = try await endpoint.post("/stable-series", Self.flat())
            #expect(answer.status == 503)
            #expect(try answer.member("code") == "under-way")
            let limit = StackError(.timedOut, "The event was not made.")
            try await poll(for: .seconds(20), orThrow: limit) { orthanc.requests.isEmpty ? nil : true }
        }
        let stuck = ScriptedResources(after: .seconds(3600))
        try await RunningEndpoint.serving(stuck, configure: { $0.requestLimit = .milliseconds(100) }) { endpoint in
            let answer = try await endpoint.post("/submit", "{\"id\": \"\(Self.id)\"}")
            #expect(answer.status == 503)
        }
    }

    @Test("A port that another program has is waited for")
    func portInUse() async throws {
        let port = try FreePorts.next()
        let holder = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(holder, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        try #require(bound == 0 && listen(holder, 1) == 0)
        let release = Task {
            try await Task.sleep(for: .milliseconds(300))
            close(holder)
        }
        try await RunningEndpoint.serving(ScriptedResources(), port: port, configure: { $0.bindPause = .milliseconds(50) }) { endpoint in
            let answer = try await endpoint.get("/healthz")
            #expect(answer.status == 200)
        }
        try await release.value
    }

    @Test("Where it listens is configuration; without a port there is none")
    func configuration() throws {
        #expect(try EndpointConfiguration(settings: settings([:])) == nil)
        let endpoint = try #require(
            try EndpointConfiguration(settings: settings(["INGEST_PORT": "5000", "INGEST_HOST": "0.0.0.0", "INGEST_TOKEN": "t"])))
        #expect(endpoint.port == 5000 && endpoint.host == "0.0.0.0" && endpoint.token == "t")
        #expect(throws: SettingError.self) { try EndpointConfiguration(settings: settings(["INGEST_PORT": "0"])) }
        #expect(throws: SettingError.self) { try EndpointConfiguration(settings: settings(["INGEST_PORT": "http"])) }
    }
}
