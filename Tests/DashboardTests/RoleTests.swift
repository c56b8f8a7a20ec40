import Accounts
import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Dashboard

/// Every route, every role, every way to come in.
@Suite(.timeLimit(.minutes(2)))
struct RoleTests {
    private static func routes(_ sample: SampleLedger) throws -> [(name: String, requirement: RouteRoles.Requirement?)] {
        let (router, roles) = try DashboardServer.sample(sample).routing()
        return router.routes.map { ("\($0.method) \($0.path)", roles.requirement($0.method, $0.path.description)) }
    }

    @Test("Each route has its role, and each entry its route")
    func table() throws {
        let routes = try Self.routes(SampleLedger())
        #expect(routes.count > 60)
        for route in routes { #expect(route.requirement != nil, "\(route.name) is missing in RouteRoles") }
        let known = Set(routes.map(\.name))
        for entry in RouteRoles.pages.keys { #expect(known.contains(entry), "\(entry) is no route") }
        // What changes something takes more than looking.
        for route in routes where route.name.hasPrefix("POST ") && route.requirement == .role(.viewer) {
            #expect(route.name.hasPrefix("POST /account/"), "\(route.name)")
        }
        #expect(
            routes.filter { $0.requirement == .everyone }.map(\.name).sorted() == [
                "GET /assets/{name}", "GET /healthz", "GET /readyz", "GET /sign-in", "POST /sign-in", "POST /sign-out",
            ])
    }

    @Test("All routes by all roles, with a cookie and its form token, with the cookie alone, with an API token, and with nothing")
    func walk() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let routes = try Self.routes(sample)
        try await RunningDashboard.serving(sample) { dashboard in
            var cookies: [AccountRole: String] = [:]
            var forms: [AccountRole: String] = [:]
            var tokens: [AccountRole: String] = [:]
            for role in AccountRole.allCases {
                try await dashboard.addUser("u-\(role.rawValue)", role)
                let cookie = try await dashboard.signIn("u-\(role.rawValue)").cookie
                cookies[role] = cookie
                forms[role] = try await dashboard.openForm("/account", cookie: cookie).token
                let (id, token) = SecretText.makeToken()
                try await dashboard.store.addToken(
                    MonitorToken(id: id, name: "t-\(role.rawValue)", role: role, createdBy: "test", createdAt: Date()),
                    hash: SecretText.digest(token))
                tokens[role] = token
            }
            for (name, requirement) in routes {
                let method = String(name.prefix { $0 != " " })
                // Streams do not end, and these would sign the walker out or change who may what.
                if name.hasPrefix("HEAD ") || name.hasSuffix("/stream") || name.hasSuffix("/sign-out") { continue }
                let path = Self.example(String(name.drop { $0 != " " }.dropFirst()), hospital)
                let isAPI = path.hasPrefix("/api/")
                let nobody = try await dashboard.send(method, path, form: method == "GET" || isAPI ? nil : [:])
                if requirement == .everyone {
                    #expect(nobody.status != 401, "\(name)")
                } else {
                    #expect(nobody.status == 401 || nobody.status == 303, "\(name) by nobody: \(nobody.status)")
                    if nobody.status == 303 { #expect(nobody.headers["location"]?.hasPrefix("/sign-in") == true) }
                }
                guard case .role(let needed) = requirement else { continue }
                for role in AccountRole.allCases {
                    let isAllowed = role >= needed
                    let cookie = try #require(cookies[role])
                    let form = try #require(forms[role])
                    if method == "GET" {
                        let status = try await dashboard.get(path, headers: ["Cookie": cookie]).status
                        #expect((status == 403) == !isAllowed && status < 500, "\(name) by \(role): \(status)")
                    } else {
                        let with = try await dashboard.send(
                            method, path, headers: ["Cookie": cookie].merging(isAPI ? ["X-CSRF-Token": form] : [:]) { $1 },
                            form: isAPI ? nil : ["csrf": form])
                        #expect((with.status == 403) == !isAllowed && with.status < 500, "\(name) by \(role): \(with.status)")
                        let without = try await dashboard.send(method, path, headers: ["Cookie": cookie], form: isAPI ? nil : [:])
                        #expect(without.status == 403, "\(name) by \(role) without the form's token: \(without.status)")
                        let foreign = try await dashboard.send(
                            method, path, headers: ["Cookie": cookie, "X-CSRF-Token": form, "Origin": "https://evil.example"],
                            form: isAPI ? nil : ["csrf": form])
                        #expect(foreign.status == 403, "\(name) by \(role) from another site: \(foreign.status)")
                    }
                    let bearer = try await dashboard.send(
                        method, path, headers: ["Authorization": "Bearer \(try #require(tokens[role]))"],
                        form: method == "GET" || isAPI ? nil : [:])
                    // A program has no account of its own, and so no password, and no browser in which a run could stay revealed.
                    let isReveal = path.hasPrefix("/runs/") && path.hasSuffix("/reveal")
                    let isRefused = !isAllowed || path.hasPrefix("/account/") || isReveal
                    #expect((bearer.status == 403) == isRefused && bearer.status < 500, "\(name) by a \(role)'s token: \(bearer.status)")
                }
            }
            // What was refused was not done.
            #expect(dashboard.commands.sent.allSatisfy { $0.actor.hasSuffix("operator") || $0.actor.hasSuffix("admin") })
            #expect(!dashboard.commands.sent.isEmpty)
        }
    }

    /// - Parameter route: `/runs/{id}/retry`
    private static func example(_ route: String, _ hospital: SampleLedger.Hospital) -> String {
        if route.hasPrefix("/users/") || route.hasPrefix("/tokens/") { return route.replacing("{id}", with: "nobody") }
        let id =
            route.contains("/jobs/")
            ? "\(hospital.failed).2"
            : route.contains("/workers/") ? "hal.4711.a1" : route.contains("/channels/") ? "default" : hospital.failed
        return route.replacing("{job}/**", with: "\(hospital.succeeded).3/preview/head.png").replacing("{name}", with: "monitor.css")
            .replacing(/\{[a-zA-Z]+\}/, with: id)
    }

    @Test("A forgotten route is an admin's")
    func forgotten() {
        let roles = RouteRoles(["GET /runs": .role(.viewer)])
        #expect(roles.requirement(.get, "/runs") == .role(.viewer))
        #expect(roles.requirement(.head, "/runs") == .role(.viewer))
        #expect(roles.requirement(.post, "/runs") == nil)
        #expect(roles.requirement(.get, "/runs/{id}") == nil)
    }

    @Test("Pages offer what may be done, and no more")
    func offers() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for role in AccountRole.allCases { try await dashboard.addUser("u-\(role.rawValue)", role) }
            for (role, links) in [
                (AccountRole.viewer, ["/account"]), (.operator, ["/account", "/audit"]), (.admin, ["/account", "/audit", "/users"]),
            ] {
                let cookie = try await dashboard.signIn("u-\(role.rawValue)").cookie
                let page = try await dashboard.get("/runs/\(hospital.failed)", headers: ["Cookie": cookie]).text
                for link in ["/account", "/audit", "/users"] {
                    #expect(page.contains("href=\"\(link)\"") == links.contains(link), "\(role) \(link)")
                }
                #expect(page.contains("/retry\"") == (role >= .operator), "\(role)")
                #expect(page.contains("/reveal\"") == (role >= .operator), "\(role)")
            }
        }
    }
}
