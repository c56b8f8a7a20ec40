import Foundation
import Testing

@testable import Bootstrap

@Suite struct FaultPointTests {
    @Test func aFaultStrikesAtItsTurnAndOnlyThere() {
        let plan = FaultPlan([.init(point: .routerEventCommitted, nth: 2, action: .hang)])
        #expect(plan.action(at: .routerEventCommitted) == nil)
        #expect(plan.action(at: .routerResultCommitted) == nil)
        #expect(plan.action(at: .routerEventCommitted) == .hang)
        #expect(plan.action(at: .routerEventCommitted) == nil)
    }

    @Test func aListIsReadWholeOrNotAtAll() {
        let faults = FaultPlan.parse("router.event.committed:1:exit,worker.job.ended:3:throw")
        #expect(
            faults == [
                .init(point: .routerEventCommitted, nth: 1, action: .exit), .init(point: .workerJobEnded, nth: 3, action: .throw),
            ])
        for text in ["router.nowhere:1:exit", "router.event.committed:0:exit", "router.event.committed:1", "router.event.committed:1:stop"]
        {
            #expect(FaultPlan.parse(text) == nil, "\(text)")
        }
    }

    @Test func aFaultThatStruckOnceLeavesTheNextProcessAlone() {
        let file = FileManager.default.temporaryDirectory.appending(path: "fault-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let environment = ["DCM_FAULT": "worker.job.ended:1:exit", "DCM_FAULT_ONCE": file]
        #expect(FaultPlan.fromEnvironment(environment)?.action(at: .workerJobEnded) == .exit)
        #expect(FaultPlan.fromEnvironment(environment) == nil)
        #expect((try? String(contentsOfFile: file, encoding: .utf8)) == "worker.job.ended")
    }

    @Test func withoutTheVariableNothingHappens() throws {
        #expect(FaultPlan.fromEnvironment([:]) == nil)
        for point in FaultPoint.allCases {
            FaultPoint.reach(point)
            try FaultPoint.check(point)
        }
    }
}

@Suite struct PaceTests {
    @Test(
        arguments: [(nil, 1), ("", 1), ("fast", 1), ("0", 1), ("-3", 1), ("0.1", 0.1), ("0.0001", 0.01), ("7", 1)] as [(String?, Double)])
    func onlyHurryIsAllowed(text: String?, factor: Double) {
        #expect(Pace.factor(text) == factor)
    }
}
