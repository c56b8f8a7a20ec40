import Testing

@testable import Registry

@Suite struct NearestNameTests {
    @Test(arguments: [
        ("dependOn", "dependsOn"), ("DependsOn", "dependsOn"), ("timout", "timeout"), ("tiemout", "timeout"), ("jobname", "jobName"),
        ("colour", nil), ("x", nil), ("", nil),
    ])
    func proposesWhatIsClose(_ typed: String, _ expected: String?) {
        #expect(NearestName.of(typed, among: ["dependsOn", "timeout", "jobName", "worker"]) == expected)
    }

    @Test(arguments: [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3), ("abc", "", 3)])
    func countsEdits(_ left: String, _ right: String, _ expected: Int) {
        #expect(NearestName.distance(left, right) == expected)
    }
}
