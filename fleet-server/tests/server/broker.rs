//! The embedded broker and the devices' link, against each other, over real TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::world::{Authority, Device, Heard, World, device, down_topic, soon, up_topic};
use bytes::Bytes;
use muster::broker::{Broker, BrokerLimits, Delivery, PublishError};
use muster_link::{Event, LinkError, Message, Qos, Refused};
use shared::topic::{Down, Up};
use tokio::net::{TcpListener, TcpStream};

const BLOCK_BYTES: usize = 64 * 1024;

fn message(name: &str, down: Down, payload: Bytes) -> Event {
    Event::Message { topic: down_topic(name, down), payload }
}

#[tokio::test]
async fn messages_travel_both_ways() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    cam.link.publish_acked(up_topic("cam-7", Up::State), "hello".into()).await.unwrap();
    assert_eq!(world.hear_message().await, (device("cam-7"), Up::State, "hello".into()));
    cam.link.publish(up_topic("cam-7", Up::Request), Qos::AtMostOnce, "block 3".into()).await.unwrap();
    assert_eq!(world.hear_message().await, (device("cam-7"), Up::Request, "block 3".into()));
    let desired = Bytes::from_static(b"generation 4");
    world
        .broker
        .publish(&device("cam-7"), Down::Desired, Delivery::AtLeastOnce, desired.clone())
        .await
        .unwrap();
    cam.expect(message("cam-7", Down::Desired, desired)).await;
}

#[tokio::test]
async fn blocks_of_64_kib_arrive_unchanged_and_are_counted() {
    let world = World::new().await;
    let mut cam = world.device("cam-7").await;
    let before = cam.link.bytes().read();
    for number in 0..32_u8 {
        let block = Bytes::from(vec![number; BLOCK_BYTES]);
        world
            .broker
            .publish(&device("cam-7"), Down::Blocks, Delivery::AtMostOnce, block.clone())
            .await
            .unwrap();
        cam.expect(message("cam-7", Down::Blocks, block)).await;
    }
    cam.link
        .publish_acked(up_topic("cam-7", Up::Telemetry), Bytes::from(vec![1; BLOCK_BYTES]))
        .await
        .unwrap();
    let after = cam.link.bytes().read();
    let (up, down) = (after.up_bytes - before.up_bytes, after.down_bytes - before.down_bytes);
    let blocks = 32 * BLOCK_BYTES as u64;
    assert!(down > blocks && down < blocks * 102 / 100, "{down} bytes down");
    assert!(up > BLOCK_BYTES as u64 && up < BLOCK_BYTES as u64 * 105 / 100, "{up} bytes up");
    assert_eq!(cam.link.dropped(), 0);
}

#[tokio::test]
async fn a_foreign_topic_cannot_be_subscribed() {
    let world = World::new().await;
    for filter in [down_topic("cam-8", Down::Desired), "muster/1/d/cam-7/dn/+".into(), "#".into()] {
        let mut options = world.options("cam-7");
        options.subscriptions.push((filter.clone(), Qos::AtLeastOnce));
        let mut cam = Device::start(options);
        let what = Refused::Subscribe { topic: filter };
        cam.expect(Event::Refused { what, reason: "NotAuthorized".into() }).await;
        assert!(!cam.link.is_connected());
    }
}

#[tokio::test]
async fn a_foreign_publish_is_refused_with_its_reason() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    for topic in [up_topic("cam-8", Up::State), down_topic("cam-7", Down::Desired), "x".into()] {
        let refused = cam.link.publish_acked(topic.clone(), "lie".into()).await;
        assert_eq!(refused, Err(LinkError::Refused { reason: "NotAuthorized".into() }));
        cam.link.publish(topic.clone(), Qos::AtLeastOnce, "lie".into()).await.unwrap();
        let what = Refused::Publish { topic };
        let reason = LinkError::Refused { reason: "NotAuthorized".into() }.to_string();
        cam.expect(Event::Refused { what, reason }).await;
    }
    cam.link.publish_acked(up_topic("cam-7", Up::State), "truth".into()).await.unwrap();
    assert_eq!(world.hear_message().await.2, "truth");
}

#[tokio::test]
async fn only_the_name_in_the_certificate_connects() {
    let world = World::new().await;
    let mut options = world.options("cam-7");
    options.client_id = "cam-8".into();
    let mut cam = Device::start(options);
    let reason = "ClientIdentifierNotValid".to_owned();
    cam.expect(Event::Refused { what: Refused::Connect, reason }).await;
    assert!(world.broker.connected().is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_authority_gets_nowhere() {
    let world = World::new().await;
    let stranger = Authority::new().client("cam-7");
    let mut options = world.options("cam-7");
    options.tls = Arc::new(move || Ok(stranger.clone()));
    let mut cam = Device::start(options);
    assert!(matches!(cam.next().await, Event::Failed { .. }));
}

#[tokio::test]
async fn a_foreign_will_is_refused() {
    let world = World::new().await;
    let mut options = world.options("cam-7");
    let topic = up_topic("cam-8", Up::State);
    options.last_will = Some(Message { topic, qos: Qos::AtLeastOnce, payload: "offline".into() });
    let mut cam = Device::start(options);
    cam.expect(Event::Refused { what: Refused::Connect, reason: "NotAuthorized".into() }).await;
}

#[tokio::test]
async fn a_will_is_heard_when_the_device_vanishes_but_not_after_a_goodbye() {
    let mut world = World::new().await;
    let mut options = world.options("cam-7");
    let topic = up_topic("cam-7", Up::State);
    options.last_will = Some(Message { topic, qos: Qos::AtLeastOnce, payload: "offline".into() });
    let mut cam = Device::start(options.clone());
    cam.expect(Event::Connected).await;
    soon(cam.link.stop(Duration::from_secs(5))).await;
    world.hear_exactly(Heard::Connected(device("cam-7"))).await;
    let end = world.hear(|heard| (!matches!(heard, Heard::Subscribed(..))).then_some(heard)).await;
    assert_eq!(end, Heard::Disconnected(device("cam-7")));

    let mut cam = Device::start(options);
    cam.expect(Event::Connected).await;
    world.broker.kick(&device("cam-7")).await;
    assert_eq!(world.hear_message().await, (device("cam-7"), Up::State, "offline".into()));
    world.hear_exactly(Heard::Disconnected(device("cam-7"))).await;
}

#[tokio::test]
async fn a_kicked_device_is_cut_and_a_banned_one_stays_out() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    assert_eq!(world.broker.connected(), [device("cam-7")].into());
    world.door.banned.lock().unwrap().push(device("cam-7"));
    assert!(world.broker.kick(&device("cam-7")).await);
    assert!(matches!(cam.next().await, Event::Disconnected { .. }));
    cam.expect(Event::Refused { what: Refused::Connect, reason: "NotAuthorized".into() }).await;
    world.hear_exactly(Heard::Disconnected(device("cam-7"))).await;
    assert!(world.broker.connected().is_empty());
    world.door.banned.lock().unwrap().clear();
    cam.until(&Event::Connected).await;
    assert!(!world.broker.kick(&device("cam-8")).await);
}

#[tokio::test]
async fn a_device_that_is_kicked_while_its_message_waits_is_cut_all_the_same() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    world.sink.permits.forget_permits(usize::MAX);
    cam.link.publish(up_topic("cam-7", Up::State), Qos::AtLeastOnce, "stuck".into()).await.unwrap();
    world.hear_message().await;
    assert!(world.broker.kick(&device("cam-7")).await);
    assert!(matches!(cam.next().await, Event::Disconnected { .. }));
    world.hear_exactly(Heard::Disconnected(device("cam-7"))).await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(world.broker.address()).await.unwrap());
    }
    world.device("cam-7").await;
}

#[tokio::test]
async fn a_silent_connection_is_cut_after_its_deadline() {
    let world =
        World::with(BrokerLimits { handshake: Duration::from_millis(50), ..BrokerLimits::default() }).await;
    let stream = TcpStream::connect(world.broker.address()).await.unwrap();
    soon(stream.readable()).await.unwrap();
    assert_eq!(stream.try_read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn strangers_cannot_take_more_than_their_places() {
    let limits = BrokerLimits { max_strangers: 1, ..BrokerLimits::default() };
    let world = World::with(limits).await;
    let _silent = TcpStream::connect(world.broker.address()).await.unwrap();
    let second = TcpStream::connect(world.broker.address()).await.unwrap();
    soon(second.readable()).await.unwrap();
    assert_eq!(second.try_read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn a_restarted_broker_is_found_again_with_all_subscriptions() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    world.restart().await;
    let reason = "the server said goodbye: ServerShuttingDown".to_owned();
    cam.expect(Event::Disconnected { reason }).await;
    cam.until(&Event::Connected).await;
    for down in Down::ALL {
        world.broker.publish(&device("cam-7"), down, Delivery::AtLeastOnce, "again".into()).await.unwrap();
        cam.expect(message("cam-7", down, "again".into())).await;
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    world.restart().await;
    for number in 0..20 {
        let payload = Bytes::from(format!("{number}"));
        cam.link.publish(up_topic("cam-7", Up::Telemetry), Qos::AtLeastOnce, payload).await.unwrap();
    }
    cam.until(&Event::Connected).await;
    for number in 0..20 {
        assert_eq!(world.hear_message().await.2, format!("{number}"));
    }
}

#[tokio::test]
async fn qos_0_is_refused_while_offline() {
    let world = World::new().await;
    let mut cam = world.device("cam-7").await;
    soon(world.broker.stop()).await;
    assert!(matches!(cam.next().await, Event::Disconnected { .. }));
    let offline = cam.link.publish(up_topic("cam-7", Up::Request), Qos::AtMostOnce, "x".into()).await;
    assert_eq!(offline, Err(LinkError::Offline));
}

#[tokio::test]
async fn a_message_is_acknowledged_only_after_the_sink_kept_it() {
    let mut world = World::new().await;
    let cam = world.device("cam-7").await;
    world.sink.permits.forget_permits(usize::MAX);
    let mut acked = std::pin::pin!(cam.link.publish_acked(up_topic("cam-7", Up::Telemetry), "1".into()));
    tokio::select! {
        _ = &mut acked => panic!("acknowledged before it was kept"),
        heard = world.hear_message() => assert_eq!(heard.2, "1"),
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut acked).await.is_err());
    world.sink.permits.add_permits(1);
    soon(acked).await.unwrap();
}

#[tokio::test]
async fn a_message_that_the_sink_could_not_keep_comes_again() {
    let mut world = World::new().await;
    let mut cam = world.device("cam-7").await;
    world.sink.fails.store(true, Ordering::SeqCst);
    let link = cam.link.clone();
    let acked =
        tokio::spawn(async move { link.publish_acked(up_topic("cam-7", Up::State), "1".into()).await });
    assert_eq!(world.hear_message().await.2, "1");
    assert!(matches!(cam.next().await, Event::Disconnected { .. }));
    world.sink.fails.store(false, Ordering::SeqCst);
    assert_eq!(world.hear_message().await.2, "1");
    soon(acked).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_says_goodbye_and_ends_every_connection() {
    let world = World::new().await;
    let mut devices = Vec::new();
    for name in ["cam-1", "cam-2", "cam-3"] {
        devices.push(world.device(name).await);
    }
    soon(world.broker.stop()).await;
    assert!(world.broker.connected().is_empty());
    for device in &mut devices {
        let reason = "the server said goodbye: ServerShuttingDown".to_owned();
        device.expect(Event::Disconnected { reason }).await;
    }
    assert!(TcpStream::connect(world.broker.address()).await.is_err());
}

#[tokio::test]
async fn a_second_connection_of_a_device_takes_over() {
    let mut world = World::new().await;
    let mut old = world.device("cam-7").await;
    let new = world.device("cam-7").await;
    let reason = "the server said goodbye: SessionTakenOver".to_owned();
    old.expect(Event::Disconnected { reason }).await;
    old.cancel.cancel();
    new.link.reconnect();
    world.hear_exactly(Heard::Connected(device("cam-7"))).await;
}

#[tokio::test]
async fn a_message_for_a_device_that_is_away_is_refused() {
    let world = World::new().await;
    let away = device("cam-7");
    let sent = world.broker.publish(&away, Down::Desired, Delivery::AtLeastOnce, "x".into()).await;
    assert_eq!(sent, Err(PublishError::NotListening { device: away.clone() }));
    let huge = Bytes::from(vec![0; 300 * 1024]);
    let sent = world.broker.publish(&away, Down::Blocks, Delivery::AtMostOnce, huge.clone()).await;
    assert!(matches!(sent, Err(PublishError::TooLarge { .. })));
    let cam = world.device("cam-7").await;
    let sent = cam.link.publish(up_topic("cam-7", Up::State), Qos::AtLeastOnce, huge).await;
    assert!(matches!(sent, Err(LinkError::TooLarge { .. })));
}

#[tokio::test]
async fn the_sink_learns_when_a_device_listens() {
    let mut world = World::new().await;
    let _cam = world.device("cam-7").await;
    world.hear_exactly(Heard::Connected(device("cam-7"))).await;
    world.hear_exactly(Heard::Subscribed(device("cam-7"), Down::ALL.to_vec())).await;
}

#[tokio::test]
async fn a_slow_reader_gets_every_qos_1_message_and_loses_only_blocks() {
    let world = World::new().await;
    let mut cam = world.device("cam-7").await;
    let flood = 400;
    for number in 0..flood {
        let block = Bytes::from(vec![0; BLOCK_BYTES]);
        world.broker.publish(&device("cam-7"), Down::Blocks, Delivery::AtMostOnce, block).await.unwrap();
        if number % 10 == 0 {
            let text = Bytes::from(format!("{number}"));
            world.broker.publish(&device("cam-7"), Down::Desired, Delivery::AtLeastOnce, text).await.unwrap();
        }
    }
    let mut desired = Vec::new();
    while desired.len() < flood / 10 {
        if let Event::Message { topic, payload } = cam.next().await
            && topic == down_topic("cam-7", Down::Desired)
        {
            desired.push(payload);
        }
    }
    let expected: Vec<_> = (0..flood).step_by(10).map(|number| Bytes::from(format!("{number}"))).collect();
    assert_eq!(desired, expected);
    assert!(cam.link.is_connected());
}

#[tokio::test]
async fn every_connect_asks_for_the_certificate_anew() {
    let world = World::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (config, counter) = (world.authority.client("cam-7"), asked.clone());
    let mut options = world.options("cam-7");
    options.tls = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(config.clone())
    });
    let mut cam = Device::start(options);
    cam.expect(Event::Connected).await;
    cam.link.reconnect();
    cam.until(&Event::Connected).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stopped_link_delivers_what_it_took() {
    let mut world = World::new().await;
    let cam = world.device("cam-7").await;
    for number in 0..20 {
        let payload = Bytes::from(format!("{number}"));
        cam.link.publish(up_topic("cam-7", Up::Sketches), Qos::AtLeastOnce, payload).await.unwrap();
    }
    soon(cam.link.stop(Duration::from_secs(20))).await;
    for number in 0..20 {
        assert_eq!(world.hear_message().await.2, format!("{number}"));
    }
    world.hear_exactly(Heard::Disconnected(device("cam-7"))).await;
    let late = cam.link.publish(up_topic("cam-7", Up::Sketches), Qos::AtLeastOnce, "late".into()).await;
    assert_eq!(late, Err(LinkError::Stopped));
}

#[tokio::test]
async fn a_reader_that_is_behind_does_not_hold_back_what_the_device_says() {
    let world = World::new().await;
    let cam = world.device("cam-7").await;
    while cam.link.dropped() == 0 {
        let block = Bytes::from(vec![0; BLOCK_BYTES]);
        world.broker.publish(&device("cam-7"), Down::Blocks, Delivery::AtMostOnce, block).await.unwrap();
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        soon(cam.link.publish_acked(up_topic("cam-7", Up::Telemetry), "1".into())).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let world = World::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = world.options("cam-7");
    options.port = silent.local_addr().unwrap().port();
    options.deadlines.handshake = Duration::from_millis(50);
    let mut cam = Device::start(options);
    let Event::Failed { reason } = cam.next().await else { panic!("connected to silence") };
    assert!(reason.starts_with("TLS handshake"), "{reason}");
}
