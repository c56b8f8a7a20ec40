import Foundation
import Testing

@testable import Stack

@Suite("Settings of a stack")
struct SettingsTests {
    @Test("A .env file: comments, quotes, export, spaces")
    func environmentFile() throws {
        let text = """
            # a comment

            EVENTS=series
            export LOG_LEVEL = debug   # and why
            NAME="two words # no comment"
            SINGLE='$HOME'
            EMPTY=
            URL=http://host/?a=b#c
            """
        let values = try EnvironmentFile.parse(text, from: "x")
        #expect(
            values == [
                "EVENTS": "series", "LOG_LEVEL": "debug", "NAME": "two words # no comment", "SINGLE": "$HOME", "EMPTY": "",
                "URL": "http://host/?a=b#c",
            ]
        )
    }

    @Test("A line that is none of these is an error with its place", arguments: ["EVENTS series", "=x", "2X=1", "A B=1"])
    func badLine(line: String) {
        let error = #expect(throws: StackError.self) { try EnvironmentFile.parse("A=1\n\(line)", from: "/there/.env") }
        #expect(error?.message.contains("/there/.env, line 2") == true)
    }

    @Test("The environment wins over DIR/.env, that over the checkout's, that over the defaults")
    func precedence() async throws {
        try await withTemporaryFolder { folder in
            let home = folder.appendingPathComponent("home")
            let checkout = folder.appendingPathComponent("checkout")
            for part in [home, checkout] { try FileSystem.makeFolder(part) }
            try FileSystem.write("A=checkout\nB=checkout\nC=checkout\n", to: checkout.appendingPathComponent(".env"))
            try FileSystem.write("A=home\nB=home\n", to: home.appendingPathComponent(".env"))
            let settings = try StackSettings(
                environment: ["A": "environment"],
                home: home,
                checkout: checkout,
                defaults: ["A": "default", "B": "default", "C": "default", "D": "default"],
            )
            #expect(["A", "B", "C", "D", "E"].map { settings[$0] } == ["environment", "home", "checkout", "default", nil])
        }
    }

    @Test("A number that is none is an error that names the setting and what is allowed", arguments: ["0", "soon", "1.5", "86401"])
    func stableAge(text: String) throws {
        let nowhere = URL(fileURLWithPath: "/nowhere")
        let settings = try StackSettings(environment: ["ORTHANC_STABLE_AGE": text], home: nowhere, checkout: nil)
        let error = #expect(throws: StackError.self) { try settings.stableAge() }
        #expect(error?.code == .badSetting)
        #expect(error?.message == "ORTHANC_STABLE_AGE is '\(text)'; it has to be a whole number from 1 to 86400.")
        #expect(try StackSettings(environment: [:], home: nowhere, checkout: nil).stableAge() == 60)
    }

    @Test("Secrets are generated once, into a file that only its owner can read, beside what was there")
    func secrets() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.path)
            try FileSystem.write("EVENTS=series\nMONITOR_TOKEN=mine", to: home.environmentFile, mode: 0o644)
            try StackSecrets.generateMissing(in: home)
            let first = try EnvironmentFile.read(home.environmentFile)
            #expect(first["EVENTS"] == "series")
            #expect(first["MONITOR_TOKEN"] == "mine")
            #expect(first["RABBITMQ_PASSWORD"]?.count == 32)
            #expect(first["RABBITMQ_PASSWORD"] != first["ORTHANC_REST_PASSWORD"])
            #expect(try mode(home.environmentFile) == 0o600)

            try StackSecrets.generateMissing(in: home)
            #expect(try EnvironmentFile.read(home.environmentFile) == first)
        }
    }

    @Test("What is compared between two starts holds no secret and no noise")
    func comparable() throws {
        let settings = try StackSettings(
            environment: ["EVENTS": "study", "MONITOR_TOKEN": "t", "ORTHANC_REST_PASSWORD": "p", "ORTHANC_STABLE_AGE": "3", "SHLVL": "2"],
            home: URL(fileURLWithPath: "/nowhere"),
            checkout: nil,
        )
        #expect(settings.comparable == ["EVENTS": "study", "ORTHANC_STABLE_AGE": "3"])
    }
}

func mode(_ file: URL) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: file.path)[.posixPermissions] as? Int
}
