import Foundation
import Jobs
import Testing

@testable import Orthanc

let someID = "89dff69a-70cb1c39-0a3d7315-0224787f-a29804fe"

func client(_ url: String, _ change: (inout OrthancClient.Configuration) -> Void = { _ in }) throws -> OrthancClient {
    var configuration = OrthancClient.Configuration()
    change(&configuration)
    return OrthancClient(
        endpoint: try OrthancEndpoint(name: "test", url: url, user: "alice", password: "hunter2"), configuration: configuration
    )
}

func orthancError(_ body: () async throws -> Void) async -> OrthancError? {
    do {
        try await body()
        return nil
    } catch {
        return error as? OrthancError
    }
}

@Suite(.timeLimit(.minutes(1)))
struct OrthancClientTests {
    @Test func asksWithBasicAuthenticationAndKeepsTheConnection() async throws {
        let fake = try FakeOrthanc { _ in .json(#"{"Changes":[],"Done":true,"Last":42}"#) }
        defer { fake.stop() }
        let client = try client(fake.url)
        for _ in 1...5 {
            let answer = try await client.changes(since: 7, limit: 100)
            #expect(answer == OrthancChanges(changes: [], isDone: true, last: 42))
        }
        #expect(fake.paths == Array(repeating: "/changes?since=7&limit=100", count: 5))
        #expect(Set(fake.requests.map(\.connection)) == [1])
        let expected = "Basic " + Data("alice:hunter2".utf8).base64EncodedString()
        #expect(fake.requests.allSatisfy { $0.headers["authorization"] == expected })
    }

    @Test func runsNoMoreRequestsAtOnceThanAllowed() async throws {
        let fake = try FakeOrthanc { _ in .json(#"{"Name":"x","Version":"1.10.1"}"#) }
        defer { fake.stop() }
        let client = try client(fake.url) { $0.parallelism = 3 }
        try await withThrowingTaskGroup { group in
            for _ in 0..<50 {
                group.addTask { _ = try await client.system() }
            }
            try await group.waitForAll()
        }
        #expect(fake.requests.count == 50)
        #expect((fake.requests.map(\.connection).max() ?? 0) <= 3)
    }

    @Test(arguments: [
        (401, OrthancError.Code.unauthorized, false), (403, .unauthorized, false), (404, .notFound, false), (500, .serverFailure, true),
        (503, .serverFailure, true), (302, .badResponse, false),
    ])
    func aStatusBecomesACode(status: Int, code: OrthancError.Code, isRetriable: Bool) async throws {
        let fake = try FakeOrthanc { _ in .status(status) }
        defer { fake.stop() }
        let client = try client(fake.url)
        let id = try client.identifier(someID)
        let error = try #require(await orthancError { _ = try await client.study(id) })
        #expect(error.code == code)
        #expect(error.status == status)
        #expect(error.path == "/studies/\(someID)")
        #expect(error.isRetriable == isRetriable)
        // Neither the body, which may quote DICOM text, nor the credentials.
        #expect(!"\(error)".contains("SECRET") && !"\(error)".contains("hunter2") && !"\(error)".contains("alice"))
    }

    @Test func aClosedPortIsUnreachable() async throws {
        let fake = try FakeOrthanc { _ in .hangUp }
        fake.stop()
        let client = try client(fake.url)
        let error = try #require(await orthancError { _ = try await client.system() })
        #expect(error.code == .unreachable || error.code == .interrupted)
        #expect(error.isRetriable)
        #expect("\(error)".contains("ORTHANC_REST_URL") || error.code == .interrupted)
    }

    @Test func anUnknownHostIsUnreachable() async throws {
        let client = try client("http://no-such-host.invalid:8042")
        let error = try #require(await orthancError { _ = try await client.system() })
        #expect(error.code == .unreachable)
    }

    @Test func silenceTimesOut() async throws {
        let fake = try FakeOrthanc { _ in .silence }
        defer { fake.stop() }
        let client = try client(fake.url) { $0.stallTimeout = .seconds(1) }
        let error = try #require(await orthancError { _ = try await client.system() })
        #expect(error.code == .timedOut)
        #expect(error.isRetriable)
    }

    @Test func cancellationEndsARequestAtOnce() async throws {
        let fake = try FakeOrthanc { _ in .silence }
        defer { fake.stop() }
        let client = try client(fake.url)
        let task = Task { try await client.system() }
        while fake.requests.isEmpty { await Task.yield() }
        let start = ContinuousClock.now
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(ContinuousClock.now - start < .seconds(5))
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await client.system()
        }
        await #expect(throws: CancellationError.self) { try await late.value }
    }

    @Test func aBodyThatIsTooLargeOrNoJSONIsABadResponse() async throws {
        let fake = try FakeOrthanc { $0.path == "/system" ? .ok(Data(repeating: 0x20, count: 100_000)) : .json("<html>") }
        defer { fake.stop() }
        let client = try client(fake.url) { $0.memoryLimit = 65_536 }
        let large = try #require(await orthancError { _ = try await client.system() })
        #expect(large.code == .badResponse && large.message.contains("65536"))
        let html = try #require(await orthancError { _ = try await client.lastChange() })
        #expect(html.code == .badResponse)
    }

    @Test func illFormedUTF8DoesNotLoseTheAnswer() async throws {
        let fake = try FakeOrthanc { _ in .ok(Data(#"{"PatientName":"M"#.utf8) + [0xfc] + Data(#"ller","Modality":"CT"}"#.utf8)) }
        defer { fake.stop() }
        let client = try client(fake.url)
        let tags = try await client.tags(ofInstance: try client.identifier(someID))
        #expect(tags == ["PatientName": "M\u{fffd}ller", "Modality": "CT"])
    }

    @Test func aMissingChecksumIsNil() async throws {
        let fake = try FakeOrthanc { _ in .status(404) }
        defer { fake.stop() }
        let client = try client(fake.url)
        #expect(try await client.md5(ofInstance: try client.identifier(someID)) == nil)
    }

    @Test(arguments: ["", "../../etc/passwd", someID.uppercased(), someID + "0", someID.replacingOccurrences(of: "-", with: "/")])
    func onlyOrthancIDsBecomePartOfAPath(text: String) throws {
        let client = try client("http://127.0.0.1:1")
        #expect(throws: OrthancError.self) { try client.identifier(text) }
    }
}

struct OrthancEndpointTests {
    @Test func credentialsLeaveTheURL() throws {
        let endpoint = try OrthancEndpoint(url: "http://bob:pw@orthanc:8042/orthanc/")
        #expect(endpoint.user == "bob" && endpoint.password == "pw")
        #expect(endpoint.url.absoluteString == "http://orthanc:8042/orthanc")
        #expect(!"\(endpoint)".contains("pw"))
        let other = try OrthancEndpoint(url: "http://orthanc:8042", user: "", password: "")
        #expect(other.user == nil)
    }

    @Test(arguments: ["", "orthanc:8042", "ftp://orthanc", "http://", "not a url"])
    func anythingElseIsRefusedWithACure(url: String) {
        let error = #expect(throws: OrthancError.self) { try OrthancEndpoint(url: url) }
        #expect(error?.code == .invalidEndpoint)
        #expect(error?.cure.contains("ORTHANC_REST_URL") == true)
    }
}
