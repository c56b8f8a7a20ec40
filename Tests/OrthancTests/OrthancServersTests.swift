import Foundation
import Testing

@testable import Orthanc

struct OrthancServersTests {
    private func servers(_ values: [String: String]) throws -> OrthancServers {
        try OrthancServers { values[$0] }
    }

    @Test func oneServerIsNamedOrthanc() throws {
        let standard = try servers([:])
        #expect(standard.endpoints.map(\.name) == ["orthanc"] && standard["orthanc"]?.url.absoluteString == "http://orthanc:8042")
        let one = try servers([
            "ORTHANC_REST_URL": "https://pacs/orthanc/", "ORTHANC_REST_USERNAME": "u", "ORTHANC_REST_PASSWORD": "p",
        ])
        #expect(one.endpoints == [try OrthancEndpoint(name: "orthanc", url: "https://pacs/orthanc", user: "u", password: "p")])
    }

    @Test(arguments: [
        "ct=http://a:b%40c%2C@one:8042, mr=https://two/orthanc/",
        #" {"ct": "http://a:b%40c%2C@one:8042", "mr": "https://two/orthanc/"}"#,
    ])
    func severalHaveTheirNames(list: String) throws {
        let several = try servers([
            "ORTHANC_URLS": list, "ORTHANC_REST_URL": "http://ignored:1", "ORTHANC_REST_USERNAME": "u", "ORTHANC_REST_PASSWORD": "p",
        ])
        #expect(several.endpoints.map(\.name) == ["ct", "mr"])
        let ct = try #require(several["ct"])
        #expect(ct.url.absoluteString == "http://one:8042" && ct.user == "a" && ct.password == "b@c,")
        let mr = try #require(several["mr"])
        #expect(mr.url.absoluteString == "https://two/orthanc" && mr.user == "u" && mr.password == "p")
        #expect(several["orthanc"] == nil && "\(ct)".contains("b@c") == false)
    }

    @Test(arguments: [
        "http://u:hunter2@one:8042", "ct=", "ct=hunter2", "CT=http://hunter2@one", "a b=http://hunter2@one", ",", "{}", "[]",
        "ct=http://one:8042,ct=http://u:hunter2@two", "ct=http://one:8042,mr=http://u:hunter2@one:8042/", "../x=http://one",
        #"{"ct": {"url": "http://u:hunter2@one"}}"#,
    ])
    func whatCannotBeUsedIsSaidWithoutItsSecret(list: String) {
        let error = #expect(throws: OrthancServers.Invalid.self) { try servers(["ORTHANC_URLS": list]) }
        #expect(error?.variable == "ORTHANC_URLS" && "\(String(describing: error))".contains("hunter2") == false)
    }
}
